"""The web demo: any Hugging Face BERT in a browser, on this machine alone (extra `demo`).

What each tab computes knows nothing of the page: fill, next_sentence, similarity, pieces and curves turn a text into
numbers, views turns these into HTML in one of the languages, page puts both behind Gradio's components.
"""
