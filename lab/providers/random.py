"""The stand-in for pulumi-random: RandomPassword, without the bcryptHash that nothing here reads."""

import secrets
import string

from lab.providers.properties import Properties, secret
from lab.providers.server import InputError, Provider, Request, Resource

SETS = {
    "lower": string.ascii_lowercase,
    "upper": string.ascii_uppercase,
    "numeric": string.digits,
    "special": "!@#$%&*()-_=+[]{}<>:?",
}


class RandomPassword(Resource):
    """A password; any change of its arguments, keepers among them, makes a new one."""

    computed = ("result",)

    def check(self, request: Request) -> Properties:
        """Fill in the defaults; refuse a length that can't hold what is asked for."""
        inputs = {name: True for name in SETS} | request.inputs
        if not any(inputs[name] for name in SETS):
            raise InputError("length", "No characters are left to choose from: leave one of the sets on.")
        least = sum(inputs.get(f"min{name.capitalize()}", 0) for name in SETS)
        if isinstance(inputs["length"], int) and inputs["length"] < max(1, least):
            raise InputError("length", f"A length of {inputs['length']} is too short; write {max(1, least)} or more.")
        return inputs

    def create(self, request: Request) -> tuple[str, Properties]:
        """Choose the characters: first those of which a minimum is asked for."""
        sets = SETS | {"special": request.inputs.get("overrideSpecial", SETS["special"])}
        chosen = [
            secrets.choice(characters)
            for name, characters in sets.items()
            for _ in range(request.inputs.get(f"min{name.capitalize()}", 0))
        ]
        every = "".join(characters for name, characters in sets.items() if request.inputs[name])
        chosen += [secrets.choice(every) for _ in range(request.inputs["length"] - len(chosen))]
        secrets.SystemRandom().shuffle(chosen)
        return "none", request.inputs | {"result": secret("".join(chosen))}


class Random(Provider):
    """Only what the program uses; anything else is refused by name."""

    def resource(self, type: str) -> Resource:
        """RandomPassword or nothing."""
        if type != "random:index/randomPassword:RandomPassword":
            raise InputError("", f"The stand-in random provider has no {type}; install the real plugin.")
        return RandomPassword()


PROVIDER = Random()
