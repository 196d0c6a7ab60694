"""English sentences from a small grammar, and a few ones in other languages, for synthetic speech.

The words are chosen so that every English phoneme comes up often, beside varied neighbours.
"""

# ruff: noqa: RUF001  (Turkish has a dotless i)

from itertools import pairwise

import numpy as np

_NAMES = (
    "Maya", "Peter", "Joanna", "Thomas", "Fiona", "Bob", "Zoe", "George", "Ruth", "Martha",
    "Oliver", "Uma", "Yusuf", "Heather", "Quentin", "Vivian", "Charles", "Paula", "Noah", "Sophie",
)  # fmt: skip
_DETERMINERS = ("the", "a", "my", "our", "that", "every", "this", "her", "his", "one")
_ADJECTIVES = (
    "big", "yellow", "quiet", "rough", "smooth", "purple", "ancient", "brave", "cheap", "famous",
    "warm", "small", "huge", "thin", "measured", "broken", "joyful", "lazy", "open", "young",
    "awful", "vast", "wooden", "bumpy", "pure", "strange", "visible", "moist", "loud", "mild",
)  # fmt: skip
_NOUNS = (
    "boat", "mountain", "window", "bishop", "garage", "voice", "thumb", "father", "apple", "movie",
    "bridge", "cheese", "treasure", "lamp", "puppy", "church", "village", "picture", "beach",
    "mouth", "cloud", "engine", "river", "book", "oyster", "yard", "feather", "map", "wolf",
    "problem", "question", "harbour", "hammer", "song", "jar", "ivy", "bath", "room", "poem",
    "fish", "kitchen", "umbrella", "camera", "market", "toy", "choir", "bubble", "thought",
)  # fmt: skip
_PLURALS = (
    "apples", "maps", "bells", "boys", "waves", "papers", "moths", "languages", "photos", "rooms",
    "leaves", "judges", "farmers", "lips", "roads", "games", "eyes", "ships", "mirrors", "wheels",
    "people", "hopes", "months", "birds", "coins", "clowns", "thieves", "problems", "pipes",
)  # fmt: skip
_PAST = (
    "bought", "painted", "found", "moved", "opened", "followed", "pushed", "remembered", "watched",
    "carried", "poured", "measured", "threw", "chose", "built", "caught", "heard", "loved",
    "promised", "wrapped", "enjoyed", "borrowed", "described", "forgot", "shaped", "washed",
)  # fmt: skip
_BASE = (
    "bring", "paint", "find", "move", "open", "follow", "push", "remember", "watch", "carry",
    "pour", "measure", "throw", "choose", "build", "catch", "hear", "love", "promise", "wrap",
    "enjoy", "borrow", "describe", "forget", "shape", "wash", "buy", "improve", "pick up",
)  # fmt: skip
_PLACES = (
    "above the bay", "near the old farm", "behind the museum", "in front of the shop",
    "between the hills", "under the bridge", "by the warm fire", "at the back of the room",
    "along the path", "on top of the tower", "outside the theatre", "beyond the valley",
)  # fmt: skip
_TIMES = (
    "this morning", "before lunch", "after the meeting", "every Monday", "at half past five",
    "in February", "a month ago", "while it was raining", "at the weekend", "very early",
    "on the fourth of July", "just now",
)  # fmt: skip
_ADVERBS = (
    "slowly", "happily", "usually", "roughly", "barely", "maybe", "perhaps", "actually", "finally",
    "calmly", "above all", "of course", "honestly", "by the way",
)  # fmt: skip
_FRAMES = (
    "{adverb}, {name} {past} {det} {adj} {noun} {place}.",
    "{name} {past} {number} {adj} {plural} {time}, but nobody knew why.",
    "When {det} {noun} fell, {name} {past} the {plural} {place}.",
    "Could you {base} {det} {adj} {noun} {time}, please?",
    "Please {base} the {plural}, and then {base2} {det} {noun} {place}.",
    "I think that {name} and {name2} {past} {det} {adj} {noun}.",
    "{det_c} {noun} {place} was {adj}, {adj2} and rather {adj3}.",
    "They {past} {number} {plural}; we {past2} only {det} {noun}.",
    "Why would {name} {base} {det} {noun} and {base2} the {adj} {plural}?",
    "If my {noun} is {adj}, how should I {base} your {plural}?",
    "What a {adj} {noun}! {name} {past} it {time}.",
    "No, {name}, we never {past} {number} {plural} {place}.",
    "{adverb}, both {plural} and {plural2} make me {base} {det} {noun}.",
    "{time_c}, {name} said: the {noun} is as {adj} as {det} {noun2}.",
)
_NUMBERS = (
    "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve",
    "thirteen", "twenty", "thirty one", "forty five", "a hundred", "a thousand", "many", "few",
)  # fmt: skip

_FOREIGN = (
    ("de", (
        "Am Morgen öffnet Paul das Fenster, und Berta kocht den Kaffee.",
        "Viele Vögel fliegen im Herbst über die Berge nach Süden.",
        "Mein Bruder möchte bald ein kleines Haus am Fluss bauen.",
        "Wir haben gestern Abend lange über das Wetter gesprochen.",
        "Bitte bringen Sie mir einen Apfel, ein Brot und etwas Butter.",
    )),
    ("es", (
        "Mi abuela prepara una sopa muy buena cuando hace frío.",
        "El barco blanco llegó al puerto por la mañana, con poca gente.",
        "Pablo y Marta viven cerca de un bosque viejo y oscuro.",
        "Por favor, abre la ventana y cierra bien la puerta.",
        "Nunca olvido los nombres de mis primeros vecinos.",
    )),
    ("fr", (
        "Ma voisine promène son petit chien au bord de la rivière.",
        "Le boulanger ouvre sa boutique à six heures, même en hiver.",
        "Nous avons vu un beau film, puis nous avons bu du thé.",
        "Pourquoi veux-tu vendre cette vieille voiture bleue ?",
        "Les enfants jouent dans le jardin pendant que papa lit.",
    )),
    ("it", (
        "Il mio amico abita vicino a un piccolo ponte di pietra.",
        "Domani compriamo pane, burro e un po' di formaggio.",
        "La bambina guarda le barche che partono per le isole.",
        "Quando piove, rimango volentieri a casa con un buon libro.",
        "Chi ha aperto la porta della vecchia biblioteca?",
    )),
    ("pt", (
        "A minha família mora perto de uma praia muito bonita.",
        "O rapaz abriu o livro, leu uma página e sorriu.",
        "Amanhã vamos comprar peixe fresco no mercado velho.",
        "Por favor, fale mais devagar, ainda estou a aprender.",
        "Os pássaros voam baixo quando a chuva vem aí.",
    )),
    ("nl", (
        "Mijn buurman bouwt een boot in de schuur achter zijn huis.",
        "Morgen fietsen we samen naar de markt om brood te kopen.",
        "De oude man vertelde een verhaal over de zee en de wind.",
        "Wil je alsjeblieft het raam openen en de deur dichtdoen?",
        "In de zomer eten we vaak buiten onder de appelboom.",
    )),
    ("pl", (
        "Moja babcia piecze bardzo dobry chleb w każdą sobotę.",
        "Wieczorem poszliśmy na spacer nad małe, ciche jezioro.",
        "Proszę otworzyć okno, bo w pokoju jest bardzo ciepło.",
        "Brat kupił nowy rower, ale wciąż lubi chodzić pieszo.",
        "Ptaki śpiewają głośno, kiedy wschodzi słońce.",
    )),
    ("sv", (
        "Min bror bygger en liten båt som han vill måla blå.",
        "På sommaren badar vi ofta i sjön bakom huset.",
        "Kan du öppna fönstret, och sedan stänga dörren?",
        "Fåglarna sjunger högt när solen går upp över berget.",
        "Vi köpte bröd, ost och äpplen på det gamla torget.",
    )),
    ("tr", (
        "Annem bu sabah bize çok güzel bir börek yaptı.",
        "Küçük köpek, bahçede büyük bir ağacın altında uyuyor.",
        "Lütfen pencereyi aç, sonra da kapıyı yavaşça kapat.",
        "Babam her pazar erkenden pazara gidip meyve alır.",
        "Yağmur başlayınca bütün çocuklar eve koştu.",
    )),
)  # fmt: skip


def sentences(seed: int, n: int) -> list[str]:
    """Make English sentences.

    Args:
        seed: the same seed gives the same sentences.
        n: how many.

    Returns:
        ``n`` sentences of about 7 to 14 words with their punctuation.
    """
    rng = np.random.default_rng((seed, 0x5E))

    def pick(words: tuple[str, ...], count: int = 1) -> list[str]:
        return [words[i] for i in rng.choice(len(words), size=count, replace=False)]

    made = []
    for _ in range(n):
        (frame,), (time,), (det, det2) = pick(_FRAMES), pick(_TIMES), pick(_DETERMINERS, 2)
        adjectives, nouns, plurals = pick(_ADJECTIVES, 3), pick(_NOUNS, 2), pick(_PLURALS, 2)
        names, base, past = pick(_NAMES, 2), pick(_BASE, 2), pick(_PAST, 2)
        text = frame.format(
            name=names[0], name2=names[1], det=det, det_c=det2, time=time, time_c=time,
            adj=adjectives[0], adj2=adjectives[1], adj3=adjectives[2], noun=nouns[0],
            noun2=nouns[1], plural=plurals[0], plural2=plurals[1], base=base[0], base2=base[1],
            past=past[0], past2=past[1], number=pick(_NUMBERS)[0], place=pick(_PLACES)[0],
            adverb=pick(_ADVERBS)[0],
        )  # fmt: skip
        made.append(_articles(text[0].upper() + text[1:]))
    return made


def _articles(text: str) -> str:
    """``an`` before a vowel letter."""
    words = text.split(" ")
    for i, (word, following) in enumerate(pairwise(words)):
        if word in ("a", "A") and following[0].lower() in "aeio" and following != "one":
            words[i] = word + "n"
    return " ".join(words)


def foreign_sentences() -> tuple[tuple[str, tuple[str, ...]], ...]:
    """Sentences in other languages.

    Returns:
        (espeak-ng voice, its sentences) for each language.
    """
    return _FOREIGN
