"""Tune an MLP or a CNN on handwritten digits, with BOHB search and ASHA early stopping.

python scripts/tune_mnist.py                          the embedded 8 x 8 digits, on this machine
python scripts/tune_mnist.py --dataset mnist          MNIST, downloaded where it is missing
python scripts/tune_mnist.py --dataset mnist --address auto --gpus-per-trial 0.25
python scripts/tune_mnist.py --resume                 go on with the newest run
"""

import os
import signal
import sys

if __name__ == "__main__":  # the imports take seconds, and until they are done nothing is recorded
    signal.signal(signal.SIGINT, lambda *_: os._exit(130))

from common import image_script, main

from trainables import MnistTrainable

if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)
    code = main(image_script("mnist", MnistTrainable, __doc__))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ray is shut down at exit: nothing is left to end
    sys.exit(code)
