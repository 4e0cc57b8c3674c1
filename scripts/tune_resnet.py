"""Tune a CIFAR-style ResNet, with BOHB search and ASHA early stopping.

python scripts/tune_resnet.py                         the embedded 8 x 8 digits, on this machine
python scripts/tune_resnet.py --dataset cifar10 --max-epochs 81 --gpus-per-trial 1
python scripts/tune_resnet.py --dataset folder:pets   your images: pets/{train,test}/CLASS/*
python scripts/tune_resnet.py --address auto          on the Ray cluster this machine belongs to
python scripts/tune_resnet.py --resume                go on with the newest run
"""

import os
import signal
import sys

if __name__ == "__main__":  # the imports take seconds, and until they are done nothing is recorded
    signal.signal(signal.SIGINT, lambda *_: os._exit(130))

from common import image_script, main

from trainables import CifarResNetTrainable

if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)
    code = main(image_script("resnet", CifarResNetTrainable, __doc__))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ray is shut down at exit: nothing is left to end
    sys.exit(code)
