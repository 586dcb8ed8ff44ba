"""Arithmetic problems: mixed operations, fractions, remainders, long multiplication and long division."""

from __future__ import annotations

from fractions import Fraction
from math import gcd, lcm

from probes.problem_base import Draw, Problem, counted


def mixed(draw: Draw, level: int) -> Problem:
    """An expression with brackets and several operations, worked from the inside out."""
    a, b, c, d = (draw.between(3, 6 * level + 6) for _ in range(4))
    if level == 1:
        text, product = f"{a} + {b} * {c}", b * c
        value = a + product
        steps = [
            f"Multiplication comes before addition: {b} * {c} = {product}.",
            f"Then {a} + {product} = {value}.",
        ]
        back = [f"Taking {a} away from {value} leaves {value} - {a} = {product}, and {product} / {c} = {b}."]
    elif level == 2:
        text, inner = f"({a} + {b}) * {c} - {d}", a + b
        product = inner * c
        value = product - d
        steps = [
            f"First the brackets: {a} + {b} = {inner}.",
            f"Next the product: {inner} * {c} = {product}.",
            f"Last the subtraction: {product} - {d} = {value}.",
        ]
        back = [
            f"Multiplying out instead, {a} * {c} = {a * c} and {b} * {c} = {b * c}, and"
            f" {a * c} + {b * c} - {d} = {value} as well."
        ]
    else:
        quotient, divisor = draw.between(3, 15), draw.between(3, 9)
        dividend, low = quotient * divisor, draw.between(2, 12)
        high = low + draw.between(2, 9)
        inner, difference = a + b, high - low
        product = inner * difference
        value = product + dividend * c // divisor
        text = f"({a} + {b}) * ({high} - {low}) + {dividend} / {divisor} * {c}"
        steps = [
            f"First the brackets: {a} + {b} = {inner} and {high} - {low} = {difference}.",
            f"Their product is {inner} * {difference} = {product}.",
            f"The second part goes from left to right: {dividend} / {divisor} = {quotient}, then"
            f" {quotient} * {c} = {quotient * c}.",
            f"Together, {product} + {quotient * c} = {value}.",
        ]
        back = [
            f"The first part another way: {a} * {difference} = {a * difference} and {b} * {difference} ="
            f" {b * difference}, with {a * difference} + {b * difference} = {product}.",
            f"The second part another way: {dividend} * {c} = {dividend * c} and {dividend * c} / {divisor} ="
            f" {quotient * c}.",
        ]
    ask = draw.pick(("Work out {}.", "What is {}?", "Find the value of {}."))
    check = (draw.checking(), *back)
    return Problem("mixed operations", level, ask.format(text), (draw.opening(), *steps), check, str(value))


def fractions(draw: Draw, level: int) -> Problem:
    """A sum of two fractions, a third one taken away (level 2), the result multiplied (level 3)."""
    tops, bottoms = [], []
    for _ in range(2 if level == 1 else 3):
        bottom = draw.pick([d for d in range(2, 8 + 4 * level) if d not in bottoms])
        bottoms.append(bottom)
        tops.append(draw.pick([n for n in range(1, bottom) if gcd(n, bottom) == 1]))
    parts = [Fraction(n, d) for n, d in zip(tops, bottoms, strict=True)]
    common = lcm(*bottoms)
    over = [int(part * common) for part in parts]
    signs = [" + ", " - "][: len(parts) - 1]
    text = str(parts[0]) + "".join(sign + str(part) for sign, part in zip(signs, parts[1:], strict=True))
    top = over[0] + over[1] - (over[2] if level > 1 else 0)
    total = Fraction(top, common)
    steps = [
        f"The denominators are {', '.join(map(str, bottoms[:-1]))} and {bottoms[-1]}; their least common multiple is"
        f" {common}.",
        "With it, "
        + " and ".join(
            f"{part} = {up}/{common}" for part, up in zip(parts, over, strict=True) if part.denominator != common
        )
        + ".",
        f"The numerators give {str(over[0]) + ''.join(s + str(o) for s, o in zip(signs, over[1:], strict=True))}"
        f" = {top}, so the result is {top}/{common}.",
        *_reduced(top, common),
    ]
    back = f"Going back, {total} - {parts[1]} = {total - parts[1]}"
    if level == 1:
        check = [f"{back}, the fraction it began with."]
    else:
        check = [f"{back}, and {total - parts[1]} + {parts[2]} = {parts[0]}, the fraction it began with."]
    if level == 3:
        factor = Fraction(draw.between(2, 9), draw.pick((5, 7, 11)))
        text = f"({text}) * {wrapped_fraction(factor)}"
        result = total * factor
        raw_top, raw_bottom = total.numerator * factor.numerator, total.denominator * factor.denominator
        steps += [
            f"Now the product: {total.numerator} * {factor.numerator} = {raw_top} and {total.denominator} *"
            f" {factor.denominator} = {raw_bottom}, which is {raw_top}/{raw_bottom}.",
            *_reduced(raw_top, raw_bottom),
        ]
        check.append(f"Dividing the product again, {wrapped_fraction(result)} / {wrapped_fraction(factor)} = {total}.")
        total = result
    ask = draw.pick(("Calculate {} and give the result in lowest terms.", "Write {} as one fraction in lowest terms."))
    steps = [draw.opening(), *steps]
    return Problem("fractions", level, ask.format(text), tuple(steps), (draw.checking(), *check), str(total))


def wrapped_fraction(value: Fraction) -> str:
    """In brackets where there is a fraction bar or a sign."""
    return str(value) if value.denominator == 1 and value >= 0 else f"({value})"


def _reduced(top: int, bottom: int) -> list[str]:
    """Sentences that bring a fraction to lowest terms."""
    shared = gcd(top, bottom)
    if shared == 1:
        return [f"Nothing but 1 divides both {top} and {bottom}, so this is in lowest terms."]
    return [
        f"Both {top} and {bottom} can be divided by {shared}: {top} / {shared} = {top // shared} and"
        f" {bottom} / {shared} = {bottom // shared}, so {top}/{bottom} = {Fraction(top, bottom)}."
    ]


def remainders(draw: Draw, level: int) -> Problem:
    """The remainder of a product (level 1) or of a power, by repeated squaring."""
    modulus = draw.between(5, 9 + 6 * level)
    if level == 1:
        a, b = draw.between(modulus + 1, 99), draw.between(modulus + 1, 99)
        r, s = a % modulus, b % modulus
        steps = [
            "It is enough to multiply the remainders of the two factors.",
            f"{_divided(a, modulus)} {_divided(b, modulus)}",
            f"{draw.so()} the product leaves the same remainder as {r} * {s} = {r * s}.",
            f"{_divided(r * s, modulus)}",
        ]
        answer = r * s % modulus
        check = [f"The whole product is {a} * {b} = {a * b}, and {a * b} = {a * b // modulus} * {modulus} + {answer}."]
        statement = f"What remainder does {a} * {b} leave when it is divided by {modulus}?"
        return Problem("remainders", 1, statement, (draw.opening(), *steps), (draw.checking(), *check), str(answer))
    base = draw.between(2, min(modulus - 1, 12))
    exponent = draw.between(5, 9) if level == 2 else draw.between(11, 30)
    steps = ["I square again and again and keep only remainders."]
    squares, power = {1: base % modulus}, 1
    while 2 * power <= exponent:
        before, after = squares[power], squares[power] ** 2
        squares[2 * power] = after % modulus
        steps.append(
            f"For the exponent {2 * power}: {before} * {before} = {after}, and"
            f" {after} mod {modulus} = {after % modulus}."
        )
        power *= 2
    used = [bit for bit in squares if exponent & bit]
    steps.append(
        f"The exponent is {' + '.join(map(str, used))} = {exponent}."
        if len(used) > 1
        else f"The exponent {exponent} is one of these."
    )
    answer = squares[used[0]]
    for bit in used[1:]:
        product = answer * squares[bit]
        steps.append(
            f"Multiply: {answer} * {squares[bit]} = {product}, and {product} mod {modulus} = {product % modulus}."
        )
        answer = product % modulus
    value = base**exponent
    check = [f"In full, {base}^{exponent} = {value}, and {value} - {answer} = {value // modulus} * {modulus}."]
    statement = f"Find the remainder of {base}^{exponent} on division by {modulus}."
    return Problem("remainders", level, statement, (draw.opening(), *steps), (draw.checking(), *check), str(answer))


def _divided(value: int, modulus: int) -> str:
    return f"{value} = {value // modulus} * {modulus} + {value % modulus}, which leaves {value % modulus}."


def multiplication(draw: Draw, level: int) -> Problem:
    """Long multiplication, digit by digit with carries."""
    a = draw.between(*((12, 99), (102, 999), (1002, 9999))[level - 1])
    b = draw.between(*((12, 99), (12, 99), (102, 999))[level - 1])
    steps = [f"I multiply {a} by each digit of {b}, from the right."]
    rows = []
    for place, digit in enumerate(reversed(str(b))):
        worth = int(digit) * 10**place
        if worth == 0:
            steps.append(f"The digit 0 of {b} adds nothing.")
            continue
        steps += _one_row(a, int(digit))
        if place:
            steps.append(f"The digit {digit} stands for {worth}, so this row counts as {a} * {worth} = {a * worth}.")
        rows.append(a * worth)
    value = a * b
    if len(rows) > 1:
        steps.append(f"The rows add up: {' + '.join(map(str, rows))} = {value}.")
    tens, ones = a // 10 * 10, a % 10
    check = [
        f"The other way round, {b} * {tens} = {b * tens} and {b} * {ones} = {b * ones}, and {b * tens} + {b * ones}"
        f" = {value}."
    ]
    ask = draw.pick(("Multiply {} by {} by hand.", "What is the product of {} and {}?", "Compute {} times {}."))
    return Problem(
        "long multiplication", level, ask.format(a, b), (draw.opening(), *steps), (draw.checking(), *check), str(value)
    )


def _one_row(a: int, digit: int) -> list[str]:
    """`a` times one digit, with its carries."""
    told, carry = [], 0
    digits = [int(one) for one in reversed(str(a))]
    for place, one in enumerate(digits):
        product, total = digit * one, digit * one + carry
        said = f"{digit} * {one} = {product}" + (f", {product} + {carry} = {total}" if carry else "")
        carry = total // 10
        if place == len(digits) - 1:
            told.append(f"{said}, write {total}")
        else:
            told.append(f"{said}, write {total % 10}" + (f" and carry {carry}" if carry else ""))
    return [f"Times {digit}: {'; '.join(told)}.", f"That row is {a} * {digit} = {a * digit}."]


def division(draw: Draw, level: int) -> Problem:
    """Long division with a remainder, digit by digit."""
    divisor = draw.between(*((3, 9), (6, 19), (13, 47))[level - 1])
    dividend = draw.between(*((101, 999), (1001, 9999), (10001, 99999))[level - 1])
    steps = [f"I bring down the digits of {dividend} from the left and see how often {divisor} goes into each number."]
    rest, digits = 0, ""
    for figure in str(dividend):
        current = 10 * rest + int(figure)
        count = current // divisor
        if digits or count:
            digits += str(count)
            steps.append(
                f"{divisor} goes into {current} {counted(count, 'time')}: {count} * {divisor} = {count * divisor}, and"
                f" {current} - {count * divisor} = {current - count * divisor}."
            )
        rest = current - count * divisor
    quotient = int(digits)
    steps.append(f"{draw.so()} the quotient is {quotient} and the remainder is {rest}.")
    check = [
        f"{quotient} * {divisor} = {quotient * divisor}, and {quotient * divisor} + {rest} = {dividend};"
        f" the remainder is smaller than {divisor}."
    ]
    statement = f"Divide {dividend} by {divisor}. What are the quotient and the remainder?"
    answer = f"{quotient} with remainder {rest}"
    return Problem("long division", level, statement, (draw.opening(), *steps), (draw.checking(), *check), answer)
