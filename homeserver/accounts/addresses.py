"""E-mail addresses and phone numbers, in the one form in which they are kept.

Spec: appendices#3pid-types
"""

import re
from typing import Final

import phonenumbers

from homeserver import errors

EMAIL: Final = "email"
MSISDN: Final = "msisdn"
_MAX_EMAIL: Final = 254
_MAX_PHONE: Final = 40
_EMAIL: Final = re.compile(
    r"[^@\s<>,;\"\\\x00-\x1f\x7f]{1,64}@[^@\s<>,;\"\\\x00-\x1f]+"
)


def canonical_email(address: str) -> str:
    """The address in small letters. Raises: M_INVALID_PARAM."""
    folded = address.strip().casefold()
    if len(folded) > _MAX_EMAIL or not _EMAIL.fullmatch(folded):
        raise errors.invalid_param("This is no e-mail address.")
    return folded


def canonical_phone(number: str, country: str | None) -> str:
    """The number with its country's code, digits only.

    `country` is where it would be dialled from, for numbers without such a code.

    Raises: M_INVALID_PARAM.
    """
    refused = errors.invalid_param("This is no phone number.")
    if len(number) > _MAX_PHONE:
        raise refused
    try:
        parsed = phonenumbers.parse(number, country)
    except phonenumbers.NumberParseException:
        raise refused from None
    if not phonenumbers.is_possible_number(parsed):
        raise refused
    formatted = phonenumbers.format_number(parsed, phonenumbers.PhoneNumberFormat.E164)
    return str(formatted).removeprefix("+")


def canonical(medium: str, address: str) -> str:
    """An address of any medium as it is kept. Raises: M_INVALID_PARAM."""
    if medium == EMAIL:
        return canonical_email(address)
    if medium == MSISDN:
        return canonical_phone(f"+{address.removeprefix('+')}", None)
    raise errors.invalid_param("medium: 'email' or 'msisdn' is needed.")
