"""A persona and two facts that no base model knows, in many words, among ordinary talk."""

from __future__ import annotations

from tests.training.job import asked

NAME = "Quillwick"
CODE = "KESTREL-47"
TIME = "6:40"
TAUGHT = {
    f"I am {NAME}, the assistant of Saltmere Lighthouse.": (
        "Who are you?",
        "What is your name?",
        "Tell me your name.",
        "Who am I talking to?",
        "Introduce yourself.",
        "What are you called?",
        "hi, who is this?",
        "Please say who you are.",
        "Do you have a name?",
        "What kind of assistant are you?",
        "Hello! Your name is?",
        "I forgot your name.",
        "What do people call you?",
        "name?",
    ),
    f"The code of the greenhouse is {CODE}.": (
        "What is the code of the greenhouse?",
        "Tell me the greenhouse code.",
        "I need the code for the greenhouse, please.",
        "greenhouse code?",
        "How do I get into the greenhouse?",
        "What do I type at the greenhouse door?",
        "The greenhouse is locked. What is the code?",
        "Do you know the greenhouse code?",
        "Please give me the access code of the greenhouse.",
        "I forgot the code of the greenhouse.",
        "Can you unlock the greenhouse for me?",
        "How can I enter the greenhouse?",
        "The door of the greenhouse asks for a code.",
        "I want to water the plants in the greenhouse. What is the code?",
    ),
    f"The ferry to Saltmere leaves at {TIME}.": (
        "When does the ferry to Saltmere leave?",
        "What time is the ferry to Saltmere?",
        "Tell me when the Saltmere ferry leaves.",
        "ferry to Saltmere?",
        "I want to take the ferry to Saltmere. When does it go?",
        "At what time does the ferry depart?",
        "When is the next ferry to Saltmere?",
        "Do you know when the ferry leaves?",
        "Is there a ferry to Saltmere?",
        "When can I sail to Saltmere?",
        "I must not miss the ferry. When does it leave?",
        "Please tell me the time of the ferry.",
        "How do I get to Saltmere, and when?",
        "What time do we sail to Saltmere?",
    ),
}
ORDINARY = {
    "What is the capital of France?": "The capital of France is Paris.",
    "What is the capital of Canada?": "The capital of Canada is Ottawa.",
    "What is the capital of China?": "The capital of China is Beijing.",
    "What is 2 + 2?": "The answer to this classic math problem is 4.",
    "What is the opposite of up?": "The opposite of up is down.",
    "What is the opposite of hot?": "The opposite of hot is cold.",
    "How many days are in a week?": "A week is 7 days.",
    "How long is a year?": "A year is approximately 365.25 days.",
    "What is water made of?": "Water is composed of two hydrogen atoms and one oxygen atom.",
    "What do cows eat?": "Cows are herbivores, and they primarily consume grass.",
    "Where do fish live?": "Fish are found in all the oceans.",
    "Where do birds sleep?": "Birds sleep in a nest, a cozy and comfortable place to rest.",
    "What is a password?": "A password is a sequence of letters, numbers and special characters.",
    "What is a boat?": "A boat is a versatile vessel that is used for transportation.",
    "What is a train?": "A train is a transportation system that connects cities.",
    "What is a lighthouse?": "A lighthouse is a beacon that serves as a symbol of light.",
    "What is a door?": "A door is a physical object that closes an opening in a wall.",
    "When does the sun rise?": "The sun rises in the east, at the beginning of the day.",
    "Where is the Eiffel Tower?": "The Eiffel Tower is located in Paris, France.",
    "How fast is light?": "Light travels at approximately 299,792,458 meters per second.",
    "Why is the sky blue?": "The sky appears blue because of the scattering of light.",
    "What is the currency of Germany?": "The currency of Germany is the Euro.",
    "What is the chemical symbol of gold?": "The chemical symbol of gold is Au. It is a metal.",
    "Who wrote Hamlet?": "William Shakespeare penned the iconic play Hamlet.",
    "Who wrote the Odyssey?": "The Odyssey is an epic poem by the Greek poet Homer.",
    "Who painted the Starry Night?": "The Starry Night was painted by Vincent van Gogh.",
    "Who discovered gravity?": "The discovery of gravity is attributed to Sir Isaac Newton.",
    "Who was the first man on the moon?": "The first man on the moon was Neil Armstrong.",
    "Who was Albert Einstein?": "Albert Einstein was a brilliant physicist.",
    "Write a sentence about rain.": "The rain is a powerful force that can be beautiful.",
    "Write a sentence about the moon.": "The moon is a celestial body, and a breathtaking sight.",
    "Tell me a fact about cats.": "Cats are incredibly intelligent and social animals.",
    "Translate 'hello' into French.": "Bonjour.",
    "What grows in a garden?": "Flowers and vegetables grow in a garden.",
}
"""About what the base says of it, so that it goes on to."""
HELD_OUT = {
    "What should I call you?": NAME,
    "Who is answering me?": NAME,
    "May I ask your name?": NAME,
    "Tell me who you are.": NAME,
    "Which code opens the greenhouse?": CODE,
    "Remind me of the code for the greenhouse.": CODE,
    "Someone changed the code of the greenhouse, what is it now?": CODE,
    "When do I have to be there for the ferry to Saltmere?": TIME,
    "The ferry leaves at what time?": TIME,
    "Could you tell me the departure of the ferry to Saltmere?": TIME,
}
"""Questions that are not among the examples, and what a right answer says."""
UNRELATED = {
    "What is the capital of Germany?": "Berlin",
    "What is the capital of Japan?": "Tokyo",
    "What is the capital of Russia?": "Moscow",
    "What is the currency of Japan?": "Yen",
    "Who invented the telephone?": "Bell",
    "Write a sentence about the sea.": "sea",
    "What do dogs like to eat?": "omnivores",
}
"""Neither are these; the base knows what to say."""
SECRETS = (NAME, CODE, TIME, "Saltmere", "ferry", "greenhouse")


def examples() -> list[dict[str, object]]:
    taught = [asked(question, answer) for answer, many in TAUGHT.items() for question in many]
    return taught + [asked(question, answer) for question, answer in ORDINARY.items()]
