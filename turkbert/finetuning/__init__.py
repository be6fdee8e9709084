"""Fine-tuning and evaluation of any Hugging Face encoder on Turkish tasks, with stock AutoModelFor* classes alone.

    args = parse_finetuning_args("classification", ["configs/finetune/sentiment_mixed.json"])
    finetune(args).scores["test"]    # {"accuracy": 91.2, "f1": 91.1, ...}, in percent
"""
