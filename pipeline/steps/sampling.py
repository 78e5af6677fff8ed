"""Sampling: from logits to a token and its log-probability."""

from __future__ import annotations

from ..tensors import Tensor


class Sampling:
    def sample(self, logits: Tensor, temperature: Tensor, seeds: Tensor, tokens: Tensor, positions: Tensor,
               advance: bool = True, name: str = "sample") -> Tensor:
        """Per row 8 bytes, [R, 2] u32: the token, and the bits of its f32 log-probability under
        softmax(logits).

        temperature [R] (≤ 0: argmax, lower index on a tie), seeds [R, 2] u32. With `advance` the token
        goes to `tokens` and `positions` moves on: the next run's input. A row with a failed step gives
        OB_NONE and the step's number.
        """
        vocab = logits.shape[1]
        self.check_rows(logits, name, vocab)
        self.check_rows(temperature, name)
        self.check_rows(seeds, name, 2, dtype="u32")
        result = self.scratch(name, (self.rows, 2), "u32")
        self.add(name, "sample", (logits, temperature, seeds, self.status()), (tokens, positions, result),
                 {"rows": self.rows, "vocab": vocab, "step": self.failing_step(name), "advance": int(advance)})
        return result
