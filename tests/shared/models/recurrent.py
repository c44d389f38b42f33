"""Classifiers over token sequences with recurrent layers."""

from __future__ import annotations

from torch import Tensor, nn


class LSTMClassifier(nn.Module):
    """Embedding, two LSTM layers, a linear head on the last step."""

    def __init__(self, width: int = 6, hidden: int = 5, classes: int = 3) -> None:
        super().__init__()
        self.embedding = nn.Embedding(20, width)
        self.lstm = nn.LSTM(width, hidden, num_layers=2, batch_first=True)
        self.fc = nn.Linear(hidden, classes)

    def forward(self, tokens: Tensor) -> Tensor:
        output, _ = self.lstm(self.embedding(tokens))
        return self.fc(output[:, -1])


class GRUTagger(nn.Module):
    """Embedding, one bidirectional GRU layer, a linear head on every step."""

    def __init__(self, width: int = 6, hidden: int = 5, classes: int = 3) -> None:
        super().__init__()
        self.embedding = nn.Embedding(20, width)
        self.gru = nn.GRU(width, hidden, batch_first=True, bidirectional=True)
        self.fc = nn.Linear(2 * hidden, classes)

    def forward(self, tokens: Tensor) -> Tensor:
        output, _ = self.gru(self.embedding(tokens))
        return self.fc(output)
