"""Word problems: a few everyday situations in sentences of our own, with one to three more steps a level."""

from __future__ import annotations

from collections.abc import Callable

from probes.problem_base import Draw, Problem

Story = tuple[str, list[str], str, int]
"""Statement, steps, check, answer."""

NAMES = ("Ines", "Jonas", "Kofi", "Leila", "Marek", "Noor", "Oskar", "Priya", "Runa", "Tomas", "Wanda", "Yusuf")


def words(draw: Draw, level: int) -> Problem:
    """One of the stories below."""
    statement, steps, check, answer = draw.pick(STORIES)(draw, level)
    return Problem("word problem", level, statement, (draw.opening(), *steps), (draw.checking(), check), str(answer))


def shopping(draw: Draw, level: int) -> Story:
    """Prices, a discount, change."""
    name, (one, other) = draw.pick(NAMES), draw.some(("notebooks", "candles", "brushes", "jars of honey", "maps"), 2)
    n, m, p, q = draw.between(2, 9), draw.between(2, 9), draw.between(2, 12), draw.between(2, 12)
    cost = n * p + m * q
    statement = f"{name} buys {n} {one} at {p} crowns each and {m} {other} at {q} crowns each."
    steps = [
        f"The {one} cost {n} * {p} = {n * p} crowns and the {other} cost {m} * {q} = {m * q} crowns.",
        f"Together that is {n * p} + {m * q} = {cost} crowns.",
    ]
    if level == 1:
        check = f"{cost} - {m * q} = {n * p}, and {n * p} / {n} = {p} crowns for each of the {one}."
        return f"{statement} How many crowns is that in all?", steps, check, cost
    off = draw.between(2, n * p // 2)
    due = cost - off
    note = (due // 50 + 2) * 50  # so that there is change to spend
    statement += f" The seller takes {off} crowns off, and {name} pays with {note} crowns."
    steps.append(f"After the reduction, {cost} - {off} = {due} crowns are due.")
    if level == 2:
        steps.append(f"The change is {note} - {due} = {note - due} crowns.")
        check = f"{n * p} + {m * q} - {off} + {note - due} = {note}, which is what was handed over."
        return f"{statement} How many crowns come back?", steps, check, note - due
    each = draw.between(2, 6)
    sweets = (note - due) // each
    rest = note - due - sweets * each
    statement += f" The change goes into plums at {each} crowns each, as many as can be had. How many crowns are left?"
    steps += [
        f"The change is {note} - {due} = {note - due} crowns.",
        f"That is enough for {sweets} plums, since {sweets} * {each} = {sweets * each}, and"
        f" {note - due} - {sweets * each} = {rest} is left over, too little for another.",
    ]
    check = f"everything spent and kept is {due} + {sweets * each} + {rest} = {note} crowns."
    return statement, steps, check, rest


def shelves(draw: Draw, level: int) -> Story:
    """Things in rows, some taken away, the rest packed."""
    name, thing = draw.pick(NAMES), draw.pick(("books", "seed packets", "plates", "tins of paint"))
    rows, each, taken = draw.between(4, 12), draw.between(8, 30), draw.between(5, 8)
    total = rows * each
    left = total - taken
    statement = f"A storeroom has {rows} shelves with {each} {thing} on each. {name} takes {taken} {thing} away."
    steps = [
        f"At first there are {rows} * {each} = {total} {thing}.",
        f"After {taken} are gone, {total} - {taken} = {left} are left.",
    ]
    if level == 1:
        check = f"{left} + {taken} = {total}, and {total} / {rows} = {each} on a shelf."
        return f"{statement} How many are left?", steps, check, left
    box = draw.between(6, 12)
    full, over = divmod(left, box)
    statement += f" The rest is packed into boxes of {box}."
    steps.append(
        f"Packing gives {full} full boxes, {full} * {box} = {full * box}, and {left} - {full * box} = {over} over."
    )
    if level == 2:
        check = f"{full} * {box} + {over} + {taken} = {total}."
        return f"{statement} How many full boxes are there?", steps, check, full
    price = draw.between(3, 20)
    earned = full * price + over
    statement += (
        f" Each full box is sold for {price} crowns, and what is over for 1 crown apiece. How many crowns is that?"
    )
    steps += [
        f"The boxes bring {full} * {price} = {full * price} crowns, the rest brings {over} * 1 = {over}.",
        f"In all it is {full * price} + {over} = {earned} crowns.",
    ]
    check = f"{full} * {box} + {over} + {taken} = {total}, and {earned} - {over} = {full} * {price}."
    return statement, steps, check, earned


def journey(draw: Draw, level: int) -> Story:
    """Legs of a journey at different speeds."""
    name = draw.pick(NAMES)
    legs = [(draw.between(2, 6), draw.between(8, 30)) for _ in range(level + 1)]
    parts = [hours * speed for hours, speed in legs]
    said = [f"{hours} hours at {speed} kilometres an hour" for hours, speed in legs]
    whole, hours = sum(parts), sum(h for h, _ in legs)
    statement = f"{name} cycles {', then '.join(said)}."
    steps = [
        f"The {('first', 'second', 'third', 'fourth')[i]} part is {h} * {v} = {h * v} kilometres."
        for i, (h, v) in enumerate(legs)
    ]
    steps.append(f"Altogether that is {' + '.join(map(str, parts))} = {whole} kilometres.")
    undone = "".join(f" - {part}" for part in parts[1:])
    check = f"{whole}{undone} = {parts[0]}, the first part, and {parts[0]} / {legs[0][0]} = {legs[0][1]}"
    if level < 3:
        return f"{statement} How long is the way in kilometres?", steps, f"{check}.", whole
    goal = whole + draw.between(3, 12) * 10
    steps += [
        f"The riding takes {' + '.join(str(h) for h, _ in legs)} = {hours} hours.",
        f"What is missing to the harbour is {goal} - {whole} = {goal - whole} kilometres, at 10 kilometres an hour"
        f" {goal - whole} / 10 = {(goal - whole) // 10} hours.",
        f"In total it takes {hours} + {(goal - whole) // 10} = {hours + (goal - whole) // 10} hours.",
    ]
    statement += (
        f" The harbour lies {goal} kilometres from the start, and the last stretch goes at 10 kilometres an hour."
        " How many hours does the whole ride take?"
    )
    check += (
        f"; the last stretch is 10 * {(goal - whole) // 10} = {goal - whole}, and {whole} + {goal - whole} = {goal}."
    )
    return statement, steps, check, hours + (goal - whole) // 10


def tank(draw: Draw, level: int) -> Story:
    """Water flows in and out."""
    start, inflow, minutes = draw.between(20, 90), draw.between(6, 20), draw.between(5, 15)
    outflow = draw.between(2, inflow - 2)
    net = inflow - outflow
    statement = f"A tank holds {start} litres. Every minute {inflow} litres run in"
    if level == 1:
        end = start + inflow * minutes
        steps = [
            f"In {minutes} minutes {minutes} * {inflow} = {inflow * minutes} litres run in.",
            f"Then the tank holds {start} + {inflow * minutes} = {end} litres.",
        ]
        check = f"{end} - {start} = {inflow * minutes}, and {inflow * minutes} / {inflow} = {minutes} minutes."
        return f"{statement}. How much does it hold after {minutes} minutes?", steps, check, end
    end = start + net * minutes
    statement += f" and {outflow} litres run out."
    steps = [f"Each minute the tank gains {inflow} - {outflow} = {net} litres."]
    if level == 2:
        steps += [
            f"In {minutes} minutes that is {minutes} * {net} = {net * minutes} litres.",
            f"Then the tank holds {start} + {net * minutes} = {end} litres.",
        ]
        check = f"{start} + {inflow} * {minutes} - {outflow} * {minutes} = {end}."
        return f"{statement} How much does it hold after {minutes} minutes?", steps, check, end
    later = draw.between(2, 9)
    full = end + inflow * later
    steps += [
        f"In the first {minutes} minutes it gains {minutes} * {net} = {net * minutes} litres and holds"
        f" {start} + {net * minutes} = {end}.",
        f"Up to {full} litres, {full} - {end} = {full - end} litres are missing.",
        f"With the outlet closed that takes {full - end} / {inflow} = {later} minutes.",
        f"In total it is {minutes} + {later} = {minutes + later} minutes.",
    ]
    statement += f" After {minutes} minutes the outlet is closed. How many minutes from the start does the tank need to"
    statement += f" reach {full} litres?"
    check = f"{start} + {inflow} * {minutes + later} - {outflow} * {minutes} = {full}."
    return statement, steps, check, minutes + later


def shares(draw: Draw, level: int) -> Story:
    """A percentage kept, the rest shared out."""
    first, second = draw.some(NAMES, 2)
    percent, people = draw.pick((10, 20, 25, 40, 50)), draw.between(2, 9)
    total = 100 * draw.between(1, 5) * people
    kept = total * percent // 100
    rest = total - kept
    statement = f"A choir earns {total} crowns. It keeps {percent} percent for the piano"
    steps = [
        f"{percent} percent of {total} is {total} * {percent} / 100 = {kept} crowns.",
        f"That leaves {total} - {kept} = {rest} crowns.",
    ]
    if level == 1:
        check = f"{100 - percent} percent of {total} is {total} * {100 - percent} / 100 = {rest}."
        return f"{statement}. How many crowns are left?", steps, check, rest
    each = rest // people
    statement += f" and shares the rest equally among {people} singers, {first} among them."
    steps.append(f"Each of the {people} singers gets {rest} / {people} = {each} crowns.")
    if level == 2:
        check = f"{people} * {each} + {kept} = {total}."
        return f"{statement} What does {first} get?", steps, check, each
    given, twice = draw.between(2, each // 2), draw.between(3, 20)
    final = 2 * (each - given) + twice
    statement += (
        f" {first} spends {given} crowns on strings; {second}, who has twice as much as {first} has then, finds another"
        f" {twice} crowns. How many crowns does {second} have in the end?"
    )
    steps += [
        f"After the strings {first} has {each} - {given} = {each - given} crowns.",
        f"Twice that is 2 * {each - given} = {2 * (each - given)}, and with the find it is"
        f" {2 * (each - given)} + {twice} = {final} crowns.",
    ]
    check = f"backwards, ({final} - {twice}) / 2 + {given} = {each}, and {people} * {each} + {kept} = {total}."
    return statement, steps, check, final


STORIES: tuple[Callable[[Draw, int], Story], ...] = (shopping, shelves, journey, tank, shares)
