"""Scores in percent, in the form of the evaluate library (predictions, references -> dict), with no download.

    classification_metrics([0, 1, 1], [0, 1, 0])    # {"accuracy": 66.67, "f1": 66.67, "mcc": 50.0}
"""

import math
import warnings
from collections.abc import Sequence

import numpy as np
from scipy.stats import pearsonr, spearmanr
from seqeval.metrics import f1_score as entity_f1
from seqeval.metrics import precision_score as entity_precision
from seqeval.metrics import recall_score as entity_recall
from sklearn.metrics import accuracy_score, f1_score, matthews_corrcoef

OUTSIDE = "O"


def classification_metrics(predictions: Sequence[int], references: Sequence[int]) -> dict[str, float]:
    """Accuracy, F1 (mean over the classes, each weighing the same) and Matthews' correlation."""
    return {
        "accuracy": 100 * float(accuracy_score(references, predictions)),
        "f1": 100 * float(f1_score(references, predictions, average="macro", zero_division=0)),
        "mcc": 100 * float(matthews_corrcoef(references, predictions)),
    }


def regression_metrics(predictions: Sequence[float], references: Sequence[float]) -> dict[str, float]:
    """Pearson's and Spearman's correlation x 100 and their mean, and the mean squared error in the labels' unit.

    A correlation with something constant does not exist: it counts as 0, as a model that says the same of every pair
    has learned nothing.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # scipy tells of constants, which are known here
        pearson = float(pearsonr(predictions, references)[0])
        spearman = float(spearmanr(predictions, references)[0])
    pearson, spearman = (0.0 if math.isnan(value) else 100 * value for value in (pearson, spearman))
    mse = float(np.mean((np.asarray(predictions, float) - np.asarray(references, float)) ** 2))
    return {"pearson": pearson, "spearman": spearman, "combined": (pearson + spearman) / 2, "mse": mse}


def tagging_metrics(predictions: list[list[str]], references: list[list[str]]) -> dict[str, float]:
    """Of tags such as B-PER and O: precision, recall and F1 of whole entities (seqeval); always: accuracy of words.

    Without entities, as for parts of speech, F1 is the micro mean over words, which equals the accuracy.
    """
    sentences = zip(predictions, references, strict=True)
    correct = [said == true for sentence in sentences for said, true in zip(*sentence, strict=True)]
    accuracy = 100 * sum(correct) / max(len(correct), 1)
    if not has_entities({tag for sentence in references for tag in sentence}):
        return {"f1": accuracy, "accuracy": accuracy}
    return {
        "f1": 100 * float(entity_f1(references, predictions, zero_division=0)),
        "precision": 100 * float(entity_precision(references, predictions, zero_division=0)),
        "recall": 100 * float(entity_recall(references, predictions, zero_division=0)),
        "accuracy": accuracy,
    }


def has_entities(tags: set[str]) -> bool:
    """True if the tags mark beginnings and insides of entities: O and B-..., I-..., E-..., S-... alone."""
    return any(tag != OUTSIDE for tag in tags) and all(
        tag == OUTSIDE or (len(tag) > 2 and tag[0] in "BIESLU" and tag[1] == "-") for tag in tags
    )
