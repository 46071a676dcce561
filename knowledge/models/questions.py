"""What a question is about: its tokens without the words of asking, politeness and small talk.

Documents state and customers ask, so 怎么, 吗 or "please" are rare in the corpus and would count as telling. Word
pairs across such a word go too. A question made of nothing else keeps its tokens.
"""

from __future__ import annotations

import re

from knowledge.models.lexical import CJK_RUN, NAME, normalise, tokenize, words

# General Chinese and English function words, by kind; no word of any subject.
_CHINESE = """
的 地 得 了 着 过 吗 嘛 呢 吧 啊 呀 哦 噢 喔 嗯 呃 哎 唉 啦 哈 哈哈 呵呵 么 咯 喽 哪 之 其 所 而 与 和 跟 及 或 或者 还是 以及 并 并且 且 则 若 但 但是 可是 不过 然后
因为 所以 如果 假如 要是 的话 虽然 而且 于是 那么 这么 这样 那样 怎样 怎么样 怎么办 咋 咋样 咋办 咋弄 啥 啥样 啥时候 为啥 干嘛 怎么 怎 如何 什么 什么样 为什么 为何
何 何时 何地 何处 哪个 哪些 哪里 哪儿 哪种 哪位 哪家 哪一个 哪天 谁 几 几个 几时 多少 多久 多长 多大 多 是否 是不是 能不能 可不可以 可否 能否 会不会 有没有 要不要 对不对
好不好 行不行 用不用 该不该 需不需要 我 你 您 他 她 它 我们 咱 咱们 你们 您们 他们 她们 它们 俺 自己 大家 别人 人家 这 那 这个 那个 这些 那些 这里 那里 这儿 那儿 这边 那边 此 该 某
是 为 有 在 于 从 到 向 往 对 对于 关于 把 被 给 让 叫 使 由 以 用 按 比 就 才 都 也 又 还 再 很 太 真 挺 好 更 最 非常 比较 特别 只 只是 已 已经 刚 刚才 正在 现在 目前 一直 总是 老 老是
又是 能 能够 可 可以 会 要 想 想要 需 需要 应 应该 应当 必须 得要 肯 愿意 请 请问 麻烦 谢谢 感谢 多谢 辛苦 您好 你好 你们好 哈喽 嗨 喂 在吗 在不在 早上好 上午好 下午好 晚上好 再见 拜拜
帮 帮我 帮忙 帮帮 告诉 告诉我 说 说说 讲 讲讲 问 问下 问一下 知道 觉得 一下 一下子 一个 一些 一点 有点 一种 个 次 种 些 没 没有 不 别 无 未 吗啊 啊呀 来 去 上 下 里 中 后 前 时 时候
之后 之前 以后 以前 等 等等 即 当 至 最近 今天 弄 搞 做 看 看看 想问 想问下 咨询 了解 是什么 有什么 叫什么 什么意思 意思 求 求助 急 谢
"""
_ENGLISH = """
a an the this that these those i you he she it we they me him her us them my your his its our their mine yours ours is
am are was were be been being do does did doing done have has had having can could may might must shall should will
would what which who whom whose when where why how if then else than so and or but not no nor of in on at to for from by
with about into onto over under up down out off as there here just also too very much many any some all each both please
thank thanks hello hi hey bye yes ok okay let s t m re ve d ll don't doesn't didn't can't isn't aren't what's i'm it's i've
get got want need know tell say ask help way
"""
LIGHT = 0.5
_STOP = frozenset(_CHINESE.split()) | frozenset(_ENGLISH.split())


_IDENTIFIER = re.compile(r"\d|\w[._:/-]+\w|[a-z][A-Z]")


def content(question: str) -> str:
    """The question without function words; where nothing is left, the question itself."""
    plain = normalise(question)
    kept = CJK_RUN.sub(lambda run: "".join(" " if word in _STOP else word for word in words(run.group())), plain)
    kept = NAME.sub(lambda name: " " if name.group().lower() in _STOP else name.group(), kept)
    return kept if CJK_RUN.search(kept) or NAME.search(kept) else plain


def is_empty_talk(question: str) -> bool:
    """Whether a question has function words only: a greeting, a thank-you, "why?"."""
    plain = normalise(question)
    said = [*CJK_RUN.findall(plain), *NAME.findall(plain)]
    return content(question) == plain and all(
        word.lower() in _STOP for part in said for word in (words(part) if CJK_RUN.match(part) else [part])
    )


def question_tokens(question: str) -> dict[str, float]:
    """The tokens that a question is searched by, and the weight of each: 1, or LIGHT where it comes of a function word.

    Leaving them out altogether was worse: recall@1 of CMRC2018, its short passages and the TiDB manual's FAQ was
    96.1, 71.4, 35.7 % with weight 1; 97.4, 71.4, 39.3 with 0.5; 97.5, 70.3, 35.7 with 0.
    """
    weights = dict.fromkeys(tokenize(question), LIGHT)
    weights.update(dict.fromkeys(tokenize(content(question)), 1.0))
    return weights


def is_identifier(question: str) -> bool:
    """Whether a question is about an identifier and nothing else: `QH-40302`, `10086 是什么`, `orders.batchQuery`.

    Then only words count: the dense half knows no identifier from its neighbour.
    """
    kept = content(question)
    names = NAME.findall(kept)
    return bool(names) and not CJK_RUN.search(kept) and all(_IDENTIFIER.search(name) for name in names)
