"""Guessing ahead changes nothing but the time: the same answers with `speculate` off, auto and on,
one at a time and many at once; and what was guessed is told."""
import re
import threading

from stack import Stack, check, check_equal, done

QUESTIONS = ["Hello!", "Count from 1 to 30.", "Tell me a very long story.", "What is 12 + 30?",
             "What is 1234 + 5678?", "Who are you?"]


def metric(s, name):
    found = re.search(rf"^{name} ([0-9.e+]+)$", s.admin_get("worker0", "/metrics")[1], re.M)
    return int(float(found[1]))


def guessed(s):
    return (metric(s, "tollgate_worker_drafted_tokens_total"),
            metric(s, "tollgate_worker_accepted_tokens_total"))


def ask(s, key, text, **more):
    status, _, body = s.chat(key, text, max_tokens=200, **more)
    check_equal(status, 200, f"{text} {more}")
    m = body["choices"][0]["message"]
    return m["content"], m.get("reasoning_content"), body["usage"]["completion_tokens"]


def one_by_one(s, key):
    return [ask(s, key, q, thinking={"type": thinking}, **how)
            for q in QUESTIONS for thinking in ("enabled", "disabled")
            for how in ({"temperature": 0}, {"temperature": 1, "seed": 7})]


def at_once(s, key):
    answers = [None] * 3 * len(QUESTIONS)

    def run(i):
        answers[i] = ask(s, key, QUESTIONS[i % len(QUESTIONS)], temperature=0)
    threads = [threading.Thread(target=run, args=(i,)) for i in range(len(answers))]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    return answers


def serve(mode):
    with Stack(backend="cpu", worker={"speculate": mode, "deterministic": "yes"}) as s:
        key = s.new_key()
        alone = one_by_one(s, key)
        counts = guessed(s)
        together = at_once(s, key)
        check(guessed(s) >= counts, f"{mode}: counters grow")
        return alone, together, counts


off, auto, on = serve("off"), serve("auto"), serve("on")
for name, got in (("auto", auto), ("on", on)):
    check_equal(got[0], off[0], f"{name}: answers one by one")
    check_equal(got[1], off[1], f"{name}: answers at once")
check(sum(a[2] for a in off[0]) > 500, "there was something to guess")
check_equal(off[2], (0, 0), "nothing is guessed when it is off")
for name, (drafted, accepted) in (("auto", auto[2]), ("on", on[2])):
    check(0 < accepted <= drafted, f"{name}: {accepted} of {drafted} guesses were right")
# It measures both ways, so some requests are answered without guesses.
check(auto[2][0] < on[2][0], f"auto guesses less: {auto[2][0]} against {on[2][0]}")
done()
