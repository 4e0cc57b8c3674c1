"""Tune an MLP or a CNN on handwritten digits, with BOHB search and ASHA early stopping.

python scripts/tune_mnist.py                          the embedded 8 x 8 digits, on this machine
python scripts/tune_mnist.py --dataset mnist          MNIST, downloaded where it is missing
python scripts/tune_mnist.py --dataset mnist --address auto --gpus-per-trial 0.25
python scripts/tune_mnist.py --resume                 go on with the newest run
"""

import sys

from common import main

from trainables import MnistTrainable

if __name__ == "__main__":
    sys.exit(main("mnist", MnistTrainable, __doc__))
