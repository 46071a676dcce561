"""The customer's language, small talk, and what the service itself says in each language."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal, TypeAlias

Language: TypeAlias = Literal["zh", "en"]

_HAN = re.compile("[㐀-鿿豈-﫿\U00020000-\U0003ffff]")
_LATIN_WORD = re.compile(r"[A-Za-z]+(?:['’][A-Za-z]+)?")
_NOISE = re.compile(r"[^\w]+|_", re.UNICODE)

SmallTalk: TypeAlias = Literal["greeting", "thanks", "farewell"]

_SMALL_TALK: dict[SmallTalk, re.Pattern[str]] = {
    "greeting": re.compile(
        r"(?:你好|您好|妳好|大家好|哈喽|哈啰|哈囉|嗨|喂|在吗|在嗎|在不在|有人吗|有人嗎|早|早上好|上午好|中午好|下午好|晚上好|早安|晚安"
        r"|hi|hello|hey|hallo|hellothere|hithere|heythere|goodmorning|goodafternoon|goodevening|howareyou)"
        r"(?:啊|呀|呢|吗|嗎|哦|there|all)?"
    ),
    "thanks": re.compile(
        r"(?:好的|ok|okay|嗯|great|非常|十分|太|真的|真是)*(?:谢谢|謝謝|多谢|多謝|感谢|感謝|谢了|thanks|thankyou|thx|cheers)"
        r"(?:你|您|了|啊|啦|你们|您的帮助|你的帮助|alot|somuch|verymuch|you)?"
    ),
    "farewell": re.compile(r"(?:再见|再見|拜拜|拜|回见|bye|byebye|goodbye|seeyou)(?:了|啦|啊)?"),
}


def detect(text: str) -> Language:
    """`en` where words in Latin letters outnumber Chinese characters, `zh` otherwise.

    So a Chinese sentence about an English product name is Chinese, and both scripts of Chinese are `zh`.
    """
    latin = len(_LATIN_WORD.findall(text))
    return "en" if latin > len(_HAN.findall(text)) else "zh"


def small_talk(text: str) -> SmallTalk | None:
    """What kind of small talk the whole message is, None for anything that asks something."""
    plain = _NOISE.sub("", text.lower())
    if not plain or len(plain) > 24:
        return None
    repeated = re.sub(r"^(.{1,8}?)\1+$", r"\1", plain)  # 谢谢谢谢, hihi
    for kind, pattern in _SMALL_TALK.items():
        if pattern.fullmatch(plain) or pattern.fullmatch(repeated):
            return kind
    return None


@dataclass(frozen=True, slots=True)
class Sentences:
    """What the service itself says, in one language."""

    greeting: str
    thanks: str
    farewell: str
    unknown: str
    person: str
    person_at: str
    quoted: str
    notice_no_llm: str
    notice_llm_failed: str
    notice_interrupted: str
    failed: str

    def small_talk(self, kind: SmallTalk) -> str:
        return {"greeting": self.greeting, "thanks": self.thanks, "farewell": self.farewell}[kind]

    def dont_know(self, contact: str) -> str:
        """An honest answer without evidence, with the person to ask."""
        return f"{self.unknown}{self.person_at.format(contact=contact) if contact else self.person}"


SENTENCES: dict[Language, Sentences] = {
    "zh": Sentences(
        greeting="您好！我可以根据资料库回答您的问题，请直接告诉我您想了解什么。",
        thanks="不客气！还有其他问题，随时问我。",
        farewell="再见，祝您一切顺利！",
        unknown="抱歉，我在资料库里没有找到能回答这个问题的内容，不想随便猜一个答案给您。",
        person="您可以换个说法再问一次，或者联系人工客服。",
        person_at="您可以换个说法再问一次，或者联系人工客服：{contact}。",
        quoted="以下内容摘自资料库原文：",
        notice_no_llm="这是从资料库原文中摘录的内容。",
        notice_llm_failed="语言模型暂时不可用，这是从资料库原文中摘录的内容。",
        notice_interrupted="回答中断了，以上内容可能不完整。",
        failed="回答时出了问题，请再问一次。",
    ),
    "en": Sentences(
        greeting="Hello! I answer from our documentation. What would you like to know?",
        thanks="You're welcome! Ask me anytime.",
        farewell="Goodbye, and all the best!",
        unknown="Sorry, I found nothing in the documentation that answers this, and I'd rather not guess. ",
        person="You could put the question another way, or ask a person at customer service.",
        person_at="You could put the question another way, or ask a person at customer service: {contact}.",
        quoted="Quoted from the documentation:",
        notice_no_llm="These passages are quoted from the documentation.",
        notice_llm_failed="The language model is not available; this is quoted from the documentation.",
        notice_interrupted="The answer was cut off; what is above may be incomplete.",
        failed="Something went wrong while answering. Please ask again.",
    ),
}
