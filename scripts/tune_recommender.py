"""Tune a recommender: which model, and its settings, by ranking all items for every user.

python scripts/tune_recommender.py                      generated preferences, on this machine
python scripts/tune_recommender.py --dataset ml-100k    MovieLens, downloaded where it is missing
python scripts/tune_recommender.py --dataset file:purchases.csv --columns user=customer,item=sku
python scripts/tune_recommender.py --models mf,sasrec --split leave-one-out --k 10
python scripts/tune_recommender.py --resume             go on with the newest run
"""

import os
import signal
import sys

if __name__ == "__main__":  # the imports take seconds, and until they are done nothing is recorded
    signal.signal(signal.SIGINT, lambda *_: os._exit(130))

from common import main
from recommenders import recommender_script

if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)
    code = main(recommender_script(__doc__))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ray is shut down at exit: nothing is left to end
    sys.exit(code)
