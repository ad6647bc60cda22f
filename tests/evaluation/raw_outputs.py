"""Outputs of a classifier and of a detector."""

from __future__ import annotations

import torch

SCORES = torch.zeros(4, 7)


BOXES = {"boxes": torch.zeros(3, 4), "scores": torch.zeros(3), "labels": torch.zeros(3, dtype=torch.long)}
