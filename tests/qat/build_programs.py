"""The PyTorch programs of the training tests, made in PyTorch's environment: ``… FOLDER``."""

import sys
from pathlib import Path

import numpy as np
import torch
from torch import nn

BATCH = torch.export.Dim("batch")


class Net(nn.Module):
    """Depthwise, with normalization, ReLU in place, a branch and a value used twice."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU())
        self.deep = nn.Sequential(
            nn.Conv2d(8, 8, 3, padding=1, groups=8, bias=False),
            nn.BatchNorm2d(8),
            nn.ReLU(inplace=True),
            nn.Conv2d(8, 8, 1),
            nn.BatchNorm2d(8),
            nn.ReLU6(),
        )
        self.pool, self.drop, self.out = nn.MaxPool2d(2), nn.Dropout(0.1), nn.Linear(128, 10)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        x = self.first(image)
        x = self.deep(x) + x
        return self.out(self.drop(self.pool(x).flatten(1)))


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.memory = nn.LSTM(4, 6, batch_first=True)

    def forward(self, sound: torch.Tensor) -> torch.Tensor:
        return self.memory(sound)[0]


def learn(net: Net, x: torch.Tensor, y: torch.Tensor) -> None:
    optimizer = torch.optim.Adam(net.parameters(), 0.01)
    for _ in range(15):
        for places in torch.randperm(len(x)).split(32):
            optimizer.zero_grad()
            nn.functional.cross_entropy(net(x[places]), y[places]).backward()
            optimizer.step()


def main(folder: Path) -> None:
    torch.manual_seed(3)
    data = np.load(folder / "train.npz")
    x, y = torch.tensor(data["features"]), torch.tensor(data["labels"])
    net = Net()
    learn(net, x, y)
    net.eval()
    for name, example, shapes in (
        ("open", x[:2], ({0: BATCH},)),
        ("one", x[:1], None),
    ):
        program = torch.export.export(net, (example,), dynamic_shapes=shapes)
        torch.export.save(program, folder / f"{name}.pt2")
    program = torch.export.export(Recurrent().eval(), (torch.zeros(1, 10, 4),))
    torch.export.save(program, folder / "recurrent.pt2")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
