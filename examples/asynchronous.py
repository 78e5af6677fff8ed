"""Texts that are awaited together, while one is read piece by piece."""

import asyncio

import pipeline


async def main() -> None:
    with pipeline.load() as model:
        others = asyncio.gather(*(model.agenerate(f"The {name} said", max_tokens=12) for name in ("cat", "dog")))
        async for piece in model.astream("The fox said", max_tokens=12):
            print(piece, end="", flush=True)
        print()
        print(*await others, sep="\n")


asyncio.run(main())
