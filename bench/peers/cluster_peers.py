"""Peers of the failure clusters, each run in its own environment: see ``bench.isolated``."""

# mypy: ignore-errors
import json
import sys


def drain3(request):
    """Template mining alone: a template is a cluster."""
    from drain3 import TemplateMiner

    miner = TemplateMiner()
    texts = zip(request["messages"], request["texts"], strict=True)
    return {
        "drain3_messages": [miner.add_log_message(m)["cluster_id"] for m, _ in texts],
        "drain3_texts": _fresh_miner(TemplateMiner(), request["texts"]),
    }


def _fresh_miner(miner, texts):
    return [miner.add_log_message(t)["cluster_id"] for t in texts]


def river(request):
    """Online clustering of hashed words reduced to 16 dimensions."""
    import numpy as np
    from river import cluster

    rng = np.random.default_rng(request["seed"])
    directions = {}
    points = []
    for text in request["texts"]:
        vector = np.zeros(16)
        for word in set(text.split()):
            if word not in directions:
                directions[word] = rng.normal(size=16)
            vector += directions[word]
        vector /= np.linalg.norm(vector) or 1.0
        points.append(dict(enumerate(vector.tolist())))
    found = {}
    for name, model in (
        ("river_dbstream", cluster.DBSTREAM(clustering_threshold=0.6, fading_factor=0.001)),
        ("river_denstream", cluster.DenStream(epsilon=0.5, mu=2.5, beta=0.5)),
    ):
        for point in points:
            model.learn_one(point)
        found[name] = [int(model.predict_one(point)) for point in points]
    return found


def bertopic(request):
    """BERTopic with TF-IDF and SVD in place of a sentence model, so that no download is needed."""
    from bertopic import BERTopic
    from sklearn.decomposition import TruncatedSVD
    from sklearn.feature_extraction.text import TfidfVectorizer
    from umap import UMAP

    terms = TfidfVectorizer().fit_transform(request["texts"])
    vectors = TruncatedSVD(100, random_state=request["seed"]).fit_transform(terms)
    model = BERTopic(umap_model=UMAP(n_components=5, metric="cosine", random_state=request["seed"]))
    topics, _ = model.fit_transform(request["texts"], embeddings=vectors)
    return {"bertopic_tfidf": [int(t) for t in topics]}


if __name__ == "__main__":
    answer = globals()[sys.argv[1]](json.load(sys.stdin))
    sys.stdout.write("\n" + json.dumps(answer) + "\n")
