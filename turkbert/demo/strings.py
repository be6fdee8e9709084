"""All that the page says, in Turkish and in English: one table.

    say("is_next", "tr")  ->  "B, A'nın devamı"
"""

LANGUAGES = {"tr": "Türkçe", "en": "English"}

_STRINGS = {  # key: (Turkish, English)
    "sizes": (
        "{layers} katman · {hidden} boyut · {millions} milyon parametre · {vocabulary} parçalık sözlük",
        "{layers} layers · {hidden} dimensions · {millions} million parameters · {vocabulary} tokens",
    ),
    "language": ("Dil", "Language"),
    # Masked words
    "fill": ("Boşluk doldurma", "Fill the blank"),
    "fill_about": (
        "Eksik sözcüğün yerine [MASK] yazın; model oraya gelebilecek sözcükleri olasılıklarıyla sıralar.",
        "Write [MASK] where a word is missing; the model ranks what could stand there.",
    ),
    "fill_text": ("Metin", "Text"),
    "fill_count": ("Aday sayısı", "Candidates"),
    "fill_go": ("Doldur", "Fill in"),
    "blank": ("{number}. boşluk", "Blank {number}"),
    "no_mask": ("Metinde [MASK] yok: eksik sözcüğün yerine [MASK] yazın.", "There is no [MASK] in the text."),
    "no_fill": (
        "Bu model maskeli sözcükleri tahmin edemiyor: dosyalarında bu görevin katmanı yok.",
        "This model cannot predict masked words: its files hold no head for that.",
    ),
    # Next sentence
    "next_sentence": ("Sonraki cümle", "Next sentence"),
    "next_sentence_about": (
        "B cümlesi aynı metinde A'nın ardından gelir mi, yoksa başka bir metinden mi alınmıştır?",
        "Does sentence B follow A in the same text, or does it come from elsewhere?",
    ),
    "sentence_a": ("A cümlesi", "Sentence A"),
    "sentence_b": ("B cümlesi", "Sentence B"),
    "next_sentence_go": ("Değerlendir", "Judge"),
    "is_next": ("B, A'nın devamı", "B follows A"),
    "not_next": ("B başka bir metinden", "B comes from elsewhere"),
    "two_sentences": ("İki cümleyi de yazın.", "Write both sentences."),
    "no_next_sentence": (
        "Bu modelde sonraki cümle katmanı yok: model bu görev için eğitilmemiş ya da katman kaydedilmemiş.",
        "This model has no next-sentence head: it was not trained for that, or saved without it.",
    ),
    # Similarity
    "similarity": ("Benzerlik", "Similarity"),
    "similarity_about": (
        "Her satıra bir cümle yazın; model hepsini birer vektöre çevirir, tablo vektörlerin kosinüsünü gösterir.",
        "One sentence a line; the model turns each into a vector, the table shows their cosines.",
    ),
    "similarity_text": ("Cümleler", "Sentences"),
    "similarity_go": ("Karşılaştır", "Compare"),
    "nearest": ("En yakın çift: {first} ve {second}", "Nearest pair: {first} and {second}"),
    "similarity_caution": (
        "Yalnızca ön eğitimden geçmiş bir modelde ilgisiz cümlelerin kosinüsü de yüksek çıkabilir; tek bir sayıya "
        "değil, sayıların arasındaki farka bakın. Renkler tablodaki en küçük ve en büyük değere göre seçilir.",
        "In a model that was only pretrained the cosine of unrelated sentences can be high, too: look at the "
        "differences, not at one number. "
        "The shades run from the least to the greatest in the table.",
    ),
    "number_of_sentences": (
        "En az 2, en çok {limit} cümle yazın; her satıra bir tane.",
        "Write 2 to {limit} sentences, one a line.",
    ),
    # Tokenizer
    "pieces": ("Sözcük parçaları", "Tokenizer"),
    "pieces_about": (
        "Model metni sözcük olarak değil, sözlüğündeki parçalar hâlinde görür. ## ile başlayan parça bir öncekine "
        "bitişiktir; sözlükte karşılığı bulunmayan sözcük [UNK] olur.",
        "The model sees no words but pieces from its vocabulary. A piece with ## continues the one before; a word "
        "that the vocabulary cannot spell becomes [UNK].",
    ),
    "pieces_text": ("Metin", "Text"),
    "pieces_go": ("Parçala", "Split"),
    "num_words": ("sözcük ve işaret", "words and marks"),
    "num_pieces": ("parça", "pieces"),
    "pieces_per_word": ("sözcük başına parça", "pieces a word"),
    "unknown_share": ("bilinmeyen [UNK]", "unknown [UNK]"),
    "normalized": ("Modelin okuduğu metin", "The text as the model reads it"),
    "starts_word": ("sözcük başı", "starts a word"),
    "continues_word": ("sözcüğün devamı", "continues a word"),
    "casing": ("Türkçede büyük ve küçük harf", "Turkish upper and lower case"),
    "casing_cased": (
        "Bu model büyük ve küçük harfleri ayırır; dört harf de olduğu gibi kalır.",
        "This model is cased: all four letters stay as they are.",
    ),
    "casing_turkish": (
        "Bu model bütün harfleri Türkçenin kurallarıyla küçültür: I → ı, İ → i.",
        "This model lower-cases everything the Turkish way: I → ı, İ → i.",
    ),
    "casing_foreign": (
        "Bu model harfleri Türkçenin kurallarına göre küçültmüyor; kırmızı işaretli harfler yanlış okunuyor.",
        "This model does not lower-case the Turkish way: it misreads the letters in red.",
    ),
    "letter": ("yazılan", "written"),
    "read_as": ("okunan", "read as"),
    "same_pieces": ("aynı", "the same"),
    "other_pieces": ("farklı", "not the same"),
    "no_text": ("Bir metin yazın.", "Write a text."),
    # Curves
    "curves": ("Eğitim eğrileri", "Training curves"),
    "curves_about": (
        "Modelin eğitimi boyunca kaydedilen değerler.",
        "What was recorded while the model was trained.",
    ),
    "curve_losses": (
        "Kayıp: maskeli sözcükler ve sonraki cümle, adımlara ve görülen parçalara göre",
        "Loss: masked words and next sentence, over steps and over tokens seen",
    ),
    "curve_accuracy": ("Şaşkınlık (perplexity) ve doğruluk", "Perplexity and accuracy"),
    "curve_training": ("Öğrenme hızı, gradyan normu, saniyede parça", "Learning rate, gradient norm, tokens a second"),
    "no_curves": (
        "Bu modelin klasöründe eğitim eğrisi yok (plots/ ya da metrics.jsonl).",
        "There are no training curves in this model's folder (plots/ or metrics.jsonl).",
    ),
    # Everywhere
    "examples": ("Örnekler", "Examples"),
    "too_long": (
        "Metin çok uzun: {count} parça; bu model en çok {limit} parça okuyabilir.",
        "The text is too long: {count} tokens, and this model reads {limit} at most.",
    ),
}


def say(key: str, language: str, **values: object) -> str:
    """A sentence of the table in a language, its placeholders filled in. KeyError for a key that is not there."""
    return _STRINGS[key][list(LANGUAGES).index(language)].format(**values)


def has_string(key: str) -> bool:
    return key in _STRINGS


def decimal(value: float, digits: int, language: str) -> str:
    """1234.5 as people write it: 1.234,5 in Turkish and 1,234.5 in English."""
    text = f"{value:,.{digits}f}"
    return text.translate(str.maketrans(",.", ".,")) if language == "tr" else text


def percent(share: float, language: str) -> str:
    """0.931 as %93,1 in Turkish, where the sign comes first, and 93.1% in English."""
    number = decimal(100 * share, 1, language)
    return f"%{number}" if language == "tr" else f"{number}%"
