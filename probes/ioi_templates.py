"""Sentences for indirect object identification, written for interp (MIT).

Two persons are named, then one of them again, who gives something to the other. All names and words stand behind a
space, so that each is the same token wherever it stands.
"""

from __future__ import annotations

TEMPLATES = (
    "When {first} and {second} met at the {place}, {giver} gave a {gift} to",
    "After {first} and {second} came home from the {place}, {giver} handed a {gift} to",
    "Then, {first} and {second} walked to the {place}, and {giver} offered a {gift} to",
    "While {first} and {second} were waiting near the {place}, {giver} passed a {gift} to",
    "Last week {first} and {second} saw each other at the {place}, where {giver} sold a {gift} to",
    "Because {first} and {second} had time at the {place}, {giver} showed a {gift} to",
    "One morning {first} and {second} sat down by the {place}. Soon {giver} brought a {gift} to",
    "Yesterday {first} and {second} went past the {place}. There {giver} threw a {gift} to",
    "Once {first} and {second} had left the {place}, {giver} lent a {gift} to",
    "As {first} and {second} were talking about the {place}, {giver} sent a {gift} to",
    "Before {first} and {second} said goodbye at the {place}, {giver} returned a {gift} to",
    "In the evening {first} and {second} worked at the {place}, and {giver} promised a {gift} to",
    "Long after {first} and {second} had moved away from the {place}, {giver} mailed a {gift} to",
    "It rained when {first} and {second} reached the {place}, so {giver} took out a {gift} and gave it to",
    "The day that {first} and {second} cleaned the {place}, {giver} found a {gift} and showed it to",
    "Everyone knew that {first} and {second} liked the {place}, and that {giver} would bring a {gift} to",
)
