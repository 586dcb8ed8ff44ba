"""Algebra problems: linear equations, systems of two, quadratics by factoring, sequences, proportion."""

from __future__ import annotations

from fractions import Fraction

from probes.problem_base import Draw, Problem, listed, ordinal, plus, plus_times, times, wrapped

LETTERS = ("x", "y", "z", "t", "n")


def linear(draw: Draw, level: int) -> Problem:
    """One unknown: on one side (level 1), on both (2), behind brackets (3)."""
    x = draw.pick(LETTERS)
    root = draw.nonzero(6 * level)
    if level == 1:
        a, b = draw.between(2, 9), draw.nonzero(20)
        left, right = f"{times(a, x)}{plus(b)}", str(a * root + b)
        steps = [_moved(b, f"{times(a, x)} = {a * root + b}{plus(-b)} = {a * root}")]
        steps.append(f"Divide both sides by {a}: {x} = {a * root} / {a} = {root}.")
        sides = (f"{a} * {wrapped(root)}{plus(b)}", a * root + b), (None, a * root + b)
    else:
        c = draw.between(2, 9)
        a = c + draw.between(1, 7)
        inside, b = (draw.nonzero(9), 0) if level == 3 else (0, draw.nonzero(20))
        b = a * inside if level == 3 else b
        d = a * root + b - c * root
        if level == 2:
            left, right, steps = f"{times(a, x)}{plus(b)}", f"{times(c, x)}{plus(d)}", []
        else:
            e = draw.pick([n for n in range(-9, 10) if n not in (0, d)])
            left = f"{a}({x}{plus(inside)})"
            right = f"{times(c, x)}{plus(d - e)}{plus(e)}"
            steps = [
                f"Multiply out the brackets: {left} = {times(a, x)}{plus(b)}.",
                f"On the right, {d - e}{plus(e)} = {d}, so that side is {times(c, x)}{plus(d)}.",
            ]
        steps += [
            f"Take {times(c, x)} away on both sides: {times(a - c, x)}{plus(b)} = {d}.",
            _moved(b, f"{times(a - c, x)} = {d}{plus(-b)} = {d - b}"),
        ]
        if a - c > 1:
            steps.append(f"Divide both sides by {a - c}: {x} = {d - b} / {a - c} = {root}.")
        put_in = f"{a} * {wrapped(root)}{plus(b)}" if level == 2 else f"{a} * ({root}{plus(inside)})"
        sides = (put_in, a * root + b), (f"{c} * {wrapped(root)}{plus(d)}", c * root + d)
    (left_in, left_value), (right_in, right_value) = sides
    check = f"with {x} = {root} the left side is {left_in} = {left_value}"
    check += (
        f", and the right side is {right_value}."
        if right_in is None
        else (f" and the right side is {right_in} = {right_value}, the same.")
    )
    ask = draw.pick(("Solve {} for {}.", "For which number does {} hold? Call it {}.", "Given {}, find {}."))
    statement = ask.format(f"{left} = {right}", x)
    return Problem(
        "linear equation", level, statement, (draw.opening(), *steps), (draw.checking(), check), f"{x} = {root}"
    )


def _moved(b: int, result: str) -> str:
    return f"{'Subtract' if b > 0 else 'Add'} {abs(b)} on both sides: {result}."


def system(draw: Draw, level: int) -> Problem:
    """Two equations in two unknowns, by elimination."""
    x, y = draw.nonzero(4 + 3 * level), draw.nonzero(4 + 3 * level)
    a, d = draw.between(1, 1 + 2 * level), draw.between(1, 1 + 2 * level)
    b, c = draw.between(1, 1 + level), draw.between(1, 1 + level)
    sign = 1 if level == 1 else draw.pick((1, -1))
    d *= sign
    while a * d - b * c == 0:
        a += 1
    e, f = a * x + b * y, c * x + d * y
    first = f"{times(a, 'x')}{plus_times(b, 'y')} = {e}"
    second = f"{times(c, 'x')}{plus_times(d, 'y')} = {f}"
    steps = ["I make the coefficients of y equal and subtract."]
    if d != b:
        steps += [
            f"The first equation times {d} is {times(a * d, 'x')}{plus_times(b * d, 'y')} = {e * d}."
            if d != 1
            else "The first equation stays as it is.",
            f"The second equation times {b} is {times(c * b, 'x')}{plus_times(d * b, 'y')} = {f * b}."
            if b != 1
            else "The second equation stays as it is.",
        ]
        factors = d, b
    else:
        steps = [f"Both equations have {times(b, 'y')}, so I subtract the second from the first."]
        factors = 1, 1
    top, bottom = e * factors[0] - f * factors[1], a * factors[0] - c * factors[1]
    steps += [
        f"The difference is {times(bottom, 'x')} = {e * factors[0]}{plus(-f * factors[1])} = {top}.",
        f"{draw.so()} x = {top} / {wrapped(bottom)} = {x}.",
        f"Put this into the first equation: {a} * {wrapped(x)}{plus_times(b, 'y')} = {e}, that is"
        f" {times(b, 'y')} = {e}{plus(-a * x)} = {b * y}, so y = {y}.",
    ]
    check = (
        f"the first equation gives {a} * {wrapped(x)}{plus(b)} * {wrapped(y)} = {e}, the second gives"
        f" {c} * {wrapped(x)}{plus(d)} * {wrapped(y)} = {f}, and both are right."
    )
    statement = draw.pick(("Solve the system {} and {}.", "Find x and y such that {} and {}.")).format(first, second)
    return Problem(
        "system of two equations",
        level,
        statement,
        (draw.opening(), *steps),
        (draw.checking(), check),
        f"x = {x}, y = {y}",
    )


def quadratic(draw: Draw, level: int) -> Problem:
    """A quadratic equation with rational roots: by factoring, brought to zero first (2), a leading coefficient (3)."""
    p, q = draw.some([n for n in range(-4 - 2 * level, 5 + 2 * level) if n], 2)
    a = draw.between(2, 4) if level == 3 else 1
    # (a x - p)(x - q) = a x^2 - (p + a q) x + p q
    middle, last = -(p + a * q), p * q
    roots = sorted({Fraction(p, a), Fraction(q)})
    lead = "x^2" if a == 1 else f"{a}x^2"
    whole = f"{lead}{plus_times(middle, 'x')}{plus(last)}"
    factored = f"({times(a, 'x')}{plus(-p)})(x{plus(-q)})"
    steps = []
    statement = f"{whole} = 0"
    if level == 2:
        moved = draw.nonzero(15)
        statement = f"{lead}{plus_times(middle, 'x')}{plus(last + moved)} = {moved}"
        steps.append(f"{'Subtract' if moved > 0 else 'Add'} {abs(moved)} on both sides: {whole} = 0.")
    if level < 3:
        steps.append(
            f"I look for two numbers with product {last} and sum {middle}: {wrapped(-p)} * {wrapped(-q)} = {last} and"
            f" {-p}{plus(-q)} = {middle}."
        )
    else:
        product = a * last
        steps += [
            f"The first coefficient times the last is {a} * {wrapped(last)} = {product}, so I look for two numbers with"
            f" product {product} and sum {middle}.",
            f"They are {-p} and {-a * q}: {wrapped(-p)} * {wrapped(-a * q)} = {product} and"
            f" {-p}{plus(-a * q)} = {middle}.",
        ]
    steps += [
        f"{draw.so()} {whole} = {factored}.",
        f"A product is zero only when a factor is: {times(a, 'x')}{plus(-p)} = 0 or x{plus(-q)} = 0.",
        f"The first gives x = {Fraction(p, a)}, the second gives x = {q}.",
    ]
    put_in = []
    for root in roots:
        square = f"{wrapped(root)}^2" if a == 1 else f"{a} * {wrapped(root)}^2"
        rest = f"{plus(middle)} * {wrapped(root)}{plus(last)}" if middle else plus(last)
        put_in.append(f"for x = {root}, {square}{rest} = 0")
    ask = draw.pick(("Solve {}.", "Find every x with {}.", "Which numbers x satisfy {}?"))
    answer = " or ".join(f"x = {root}" for root in roots)
    return Problem(
        "quadratic equation",
        level,
        ask.format(statement),
        (draw.opening(), *steps),
        (draw.checking(), f"{'; '.join(put_in)}."),
        answer,
    )


def sequence(draw: Draw, level: int) -> Problem:
    """A term of an arithmetic sequence, a sum of its terms (2), a term of a recurrence (3)."""
    start = draw.between(6, 15)
    if level == 3:
        factor, shift, place = draw.between(2, 3), draw.nonzero(5), draw.between(9, 12)
        steps = [f"I write the terms down one after the other; the 1st is {start}."]
        terms = [start]
        for n in range(2, place + 1):
            terms.append(factor * terms[-1] + shift)
            steps.append(f"The {ordinal(n)} is {factor} * {wrapped(terms[-2])}{plus(shift)} = {terms[-1]}.")
        back = [terms[-1]]
        told = []
        for _ in range(2):
            back.append((back[-1] - shift) // factor)
            told.append(f"({back[-2]}{plus(-shift)}) / {factor} = {back[-1]}")
        check = f"two steps back, {' and '.join(told)}, which is the {ordinal(place - 2)} term."
        statement = (
            f"A sequence starts with {start}. Each further term is {factor} times the one before it,"
            f" {'plus' if shift > 0 else 'minus'} {abs(shift)}. What is the {ordinal(place)} term?"
        )
        return Problem("sequence", 3, statement, (draw.opening(), *steps), (draw.checking(), check), str(terms[-1]))
    difference, place = draw.nonzero(9), draw.between(8, 20 * level)
    shown = [start + i * difference for i in range(4)]
    final = start + (place - 1) * difference
    steps = [
        f"From one term to the next the difference is {shown[1]} - {wrapped(shown[0])} = {difference}, and also"
        f" {shown[2]} - {wrapped(shown[1])} = {difference}.",
        f"To reach the {ordinal(place)} term it is added {place} - 1 = {place - 1} times.",
        f"The {ordinal(place)} term is {start} + {place - 1} * {wrapped(difference)} = {final}.",
    ]
    back = f"going back from {final}, {final} - {place - 1} * {wrapped(difference)} = {start}, the first term"
    if level == 1:
        statement = f"The sequence {listed(shown)} goes on in the same way. What is its {ordinal(place)} term?"
        return Problem("sequence", 1, statement, (draw.opening(), *steps), (draw.checking(), f"{back}."), str(final))
    pair, total = start + final, place * (start + final) // 2
    steps += [
        f"First and last term together make {start}{plus(final)} = {pair}, and so does every such pair.",
        f"{draw.so()} the sum is {place} * {wrapped(pair)} / 2 = {total}.",
    ]
    mean = Fraction(total, place)
    check = f"{back}; the mean of the terms is {total} / {place} = {mean}, halfway between {start} and {final}."
    statement = f"The sequence {listed(shown)} goes on in the same way. What is the sum of its first {place} terms?"
    return Problem("sequence", 2, statement, (draw.opening(), *steps), (draw.checking(), check), str(total))


_MEASURED = (
    ("metres of rope", "weigh", "grams"),
    ("loaves of rye bread", "need", "grams of flour"),
    ("pages of proofs", "take", "minutes to read"),
    ("lanterns", "burn", "millilitres of oil in a night"),
)


def proportion(draw: Draw, level: int) -> Problem:
    """Direct proportion, inverse proportion (2), a share in a given ratio (3)."""
    if level == 1:
        things, verb, unit = draw.pick(_MEASURED)
        many, each, wanted = draw.between(3, 9), draw.between(4, 40), draw.between(10, 30)
        statement = f"If {many} {things} {verb} {many * each} {unit}, how many {unit} do {wanted} {things} {verb}?"
        steps = [
            f"For one it is {many * each} / {many} = {each}.",
            f"{draw.so()} for {wanted} it is {wanted} * {each} = {wanted * each}.",
        ]
        check = f"the two ratios agree, {many * each}/{many} = {wanted * each}/{wanted} = {each}."
        answer = wanted * each
    elif level == 2:
        first, days, factor = draw.between(2, 9), draw.between(4, 16), draw.between(2, 4)
        work = first * days * factor
        second = draw.pick([n for n in range(2, 40) if work % n == 0 and work >= 2 * n and n != first])
        answer = work // second
        statement = (
            f"A wall keeps {first} masons busy for {days * factor} days. How many days would {second} masons need for"
            " the same wall, if all of them work at the same pace?"
        )
        steps = [
            f"The wall is {first} * {days * factor} = {work} days of work for one mason.",
            f"Shared among {second} masons, this is {work} / {second} = {answer} days.",
        ]
        check = f"{second} * {answer} = {second * answer}, the same amount of work as before."
    else:
        shares, unit = [draw.between(2, 9) for _ in range(3)], draw.between(4, 30)
        total, parts = sum(shares) * unit, sum(shares)
        names = draw.some(("Ada", "Bruno", "Carla", "Dmitri", "Esra", "Femi"), 3)
        statement = (
            f"{names[0]}, {names[1]} and {names[2]} share {total} marbles in the ratio {shares[0]} : {shares[1]} :"
            f" {shares[2]}. How many does {names[2]} get?"
        )
        steps = [
            f"There are {shares[0]} + {shares[1]} + {shares[2]} = {parts} parts.",
            f"One part is {total} / {parts} = {unit} marbles.",
            f"{draw.so()} {names[2]} gets {shares[2]} * {unit} = {shares[2] * unit}.",
        ]
        got = [share * unit for share in shares]
        check = (
            f"{names[0]} gets {shares[0]} * {unit} = {got[0]} and {names[1]} gets {shares[1]} * {unit} = {got[1]}, and"
            f" {got[0]} + {got[1]} + {got[2]} = {total}."
        )
        answer = got[2]
    return Problem("proportion", level, statement, (draw.opening(), *steps), (draw.checking(), check), str(answer))
