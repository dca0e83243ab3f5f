"""Pure: what follows from how a stored notification's signature came out, in sentences for the operator."""

from collections.abc import Iterator, Sequence
from typing import Final

from service.audit.signatures import Explanation, Match, Stored, text_of
from service.mercadopago.account import Account

FAR_OFF_SECONDS: Final = 5 * 86400
"""Retries come for four days; a signature that is older was kept somewhere, or a clock is wrong."""

_UNCHECKED: Final = "it can only cost a few paced looks, which decide"


def advice(stored: Stored, explanation: Explanation, accounts: Sequence[Account]) -> list[str]:
    """One sentence each: what it means, and what to do. No secret, and no whole digest."""
    return list(_advice(stored, explanation, accounts))


def _advice(stored: Stored, explanation: Explanation, accounts: Sequence[Account]) -> Iterator[str]:
    account = next((one for one in accounts if one.name == stored.account), None)
    without_secret = account is None or not any(secret.strip() for secret in account.webhook_secrets)
    verdict = explanation.verdict
    if verdict == "unsigned":
        yield f"unsigned, as legacy QR and IPN messages are, and whatever anybody else sends: {_UNCHECKED}"
    elif verdict == "malformed":
        yield f"the signature cannot be read: {explanation.header.fault}; look at what stands before the public port"
    elif verdict == "legacy":
        yield f"a legacy notification (IPN, feed), whose signature cannot be checked: {_UNCHECKED}"
    elif verdict == "nothing_matched":
        yield from _nothing_matched(stored, account)
    for match in explanation.matches:
        yield from _what_matched(stored, match)
    if without_secret and verdict in {"no_secret", "other_account"}:
        yield f"account {stored.account} has no webhook secret: copy it from the developer panel into webhook_secrets"
    if verdict == "valid" and stored.verification != "valid":
        yield "the service would take it now: the secret was added after it came"
    age = explanation.age_seconds
    if age is not None and abs(age) > FAR_OFF_SECONDS:
        yield f"its ts is {abs(age) / 86400:.0f} days from its receipt: a replay, or a clock that is wrong"


def _what_matched(stored: Stored, match: Match) -> Iterator[str]:
    secret = f"secret number {match.secret_index + 1} of account {match.account}"
    if match.account != stored.account:
        yield (
            f"signed with {secret}: name that account in the URL of its panel, or list its user_id and application_ids "
            "here, so that its notifications find it"
        )
    if match.blanks_removed:
        yield f"{secret} matches without the blanks around it: write it anew without them"
    if match.id_from not in {"query data.id", "no id"}:
        yield f"signed was the id of {match.id_from}, not the query's data.id: something changes the query on its way"
    elif match.casing == "verbatim":
        yield f"matches {secret} verbatim: simulations of the panel sign so, or the provider changed its way"
    elif match.casing == "upper":
        yield f"matches {secret} with the id in upper case: something changes the query on its way"
    elif match.casing == "lower":
        yield f"matches {secret} in lower case, as real deliveries do"
    else:
        yield f"matches {secret} without an id: a test of the URL, or something takes data.id out of the query"
    if match.ts != "as_given":
        yield f"signed was its ts in {match.ts}: something rewrites the header on its way"


def _nothing_matched(stored: Stored, account: Account | None) -> Iterator[str]:
    body = stored.body if isinstance(stored.body, dict) else {}
    application = text_of(body.get("application_id"))
    yield "no secret that is configured here signed it in any known way"
    if application and account is not None and account.application_ids and application not in account.application_ids:
        yield (
            f"its application {application} is none of the account's: test credentials sign with another secret; log "
            "in as the test user and copy the secret from its panel into webhook_secrets"
        )
    elif body.get("live_mode") is False:
        yield "it comes from test credentials, which sign with another secret: copy it from the test user's panel"
    else:
        yield "compare webhook_secrets with the panel; after a reset keep the old secret beside the new one"
    yield f"until then {_UNCHECKED}"
