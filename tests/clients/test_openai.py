"""OpenAI's own Python package against a running worker: what it asks for arrives, and what fails raises its exceptions.

`HUATUO_WORKER_URL=http://127.0.0.1:8077 HUATUO_WORKER_KEY=KEY python -m unittest test_openai`, with openai installed; `run.py`
starts workers for it. HUATUO_WORKER_HASTY_URL names a second worker with the same key, a total deadline of 300 ms and a queue
of two (`--set deadlines.total_ms=300 --set scheduler.most_waiting=2`); without it, no answer is late and no queue full.
"""

import asyncio
import math
import os
import unittest

import openai
from openai import AsyncOpenAI, OpenAI

URL = os.environ["HUATUO_WORKER_URL"]
KEY = os.environ["HUATUO_WORKER_KEY"]
HASTY_URL = os.environ.get("HUATUO_WORKER_HASTY_URL")

QUESTION = [{"role": "system", "content": "回答简短。"}, {"role": "user", "content": "感冒了怎么办？"}]
PROMPT = "糖尿病的症状有"
TOKENS = 24
# Texts of a model may end early; these don't, so that there is something to count, cut and compare.
ENDLESS = {"ignore_eos": True}
# More than a deadline of 300 ms leaves time for.
LONG = 1900


def client(url=URL, key=KEY, **options):
    return OpenAI(base_url=f"{url}/v1", api_key=key, max_retries=options.pop("max_retries", 0), **options)


class Case(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.client = client()
        cls.model = cls.client.models.list().data[0].id
        cls.addClassCleanup(cls.client.close)

    def chat(self, **options):
        asked = {"model": self.model, "messages": QUESTION, "max_tokens": TOKENS, "temperature": 0, "extra_body": ENDLESS}
        return self.client.chat.completions.create(**asked | options)

    def complete(self, **options):
        asked = {"model": self.model, "prompt": PROMPT, "max_tokens": TOKENS, "temperature": 0, "extra_body": ENDLESS}
        return self.client.completions.create(**asked | options)

    def refused(self, kind, status, code, param, ask):
        with self.assertRaises(kind) as raised:
            ask()
        error = raised.exception
        self.assertEqual((error.status_code, error.code, error.param), (status, code, param))
        self.assertTrue(error.body["message"])
        # What a user reports, to be found in the worker's log.
        self.assertTrue(error.request_id.startswith("req-"), error.request_id)


class Models(Case):
    def test_a_listed_model_can_be_retrieved_by_its_name(self):
        for listed in self.client.models.list():
            model = self.client.models.retrieve(listed.id)
            self.assertEqual((model.id, model.object, model.owned_by), (listed.id, "model", listed.owned_by))

    def test_an_unknown_model_is_not_found(self):
        not_found = (openai.NotFoundError, 404, "model_not_found", None)
        self.refused(*not_found, lambda: self.client.models.retrieve("gpt-0"))
        self.refused(*not_found, lambda: self.chat(model="gpt-0"))
        self.refused(*not_found, lambda: self.complete(model="gpt-0"))

    def test_a_wrong_key_is_an_authentication_error(self):
        with client(key="not-the-key-0123") as stranger:
            self.refused(openai.AuthenticationError, 401, "invalid_api_key", None, stranger.models.list)


class Chat(Case):
    def test_an_answer_has_one_choice_and_counts_its_tokens(self):
        answer = self.chat()
        (choice,) = answer.choices
        self.assertEqual((answer.object, answer.model, choice.index), ("chat.completion", self.model, 0))
        message = choice.message
        self.assertEqual((message.role, message.tool_calls, message.refusal), ("assistant", None, None))
        self.assertTrue(message.content)
        usage = answer.usage
        self.assertEqual((choice.finish_reason, usage.completion_tokens), ("length", TOKENS))
        self.assertEqual(usage.total_tokens, usage.prompt_tokens + usage.completion_tokens)
        self.assertLess(usage.prompt_tokens_details.cached_tokens, usage.prompt_tokens)

    def test_a_stream_says_what_the_whole_answer_says_and_then_its_usage(self):
        whole = self.chat()
        *chunks, last = self.chat(stream=True, stream_options={"include_usage": True})
        content = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
        self.assertEqual(content, whole.choices[0].message.content)
        self.assertEqual(chunks[0].choices[0].delta.role, "assistant")
        self.assertEqual([chunk.choices[0].finish_reason for chunk in chunks], [None] * (len(chunks) - 1) + ["length"])
        self.assertEqual({(chunk.id, chunk.object) for chunk in chunks}, {(last.id, "chat.completion.chunk")})
        self.assertEqual([chunk.usage for chunk in chunks], [None] * len(chunks))
        self.assertEqual((last.choices, last.usage.completion_tokens), ([], TOKENS))
        self.assertEqual(last.usage.prompt_tokens, whole.usage.prompt_tokens)

    def test_a_stream_has_no_usage_unless_it_is_asked_for(self):
        self.assertTrue(all(chunk.choices and chunk.usage is None for chunk in self.chat(stream=True)))

    def test_the_packages_own_accumulation_gives_the_whole_answer(self):
        whole = self.chat().choices[0].message.content
        # The package takes an answer that was cut at its length for a failure, so this one ends at a stop text.
        asked = {"max_tokens": TOKENS, "temperature": 0, "stop": whole[-2:], "extra_body": ENDLESS}
        with self.client.chat.completions.stream(model=self.model, messages=QUESTION, **asked) as stream:
            kinds = {event.type for event in stream}
            (choice,) = stream.get_final_completion().choices
        self.assertLessEqual({"chunk", "content.delta", "content.done"}, kinds)
        self.assertEqual((choice.message.content, choice.finish_reason), (whole[: whole.index(whole[-2:])], "stop"))

    def test_two_answers_are_told_apart_by_their_index(self):
        answer = self.chat(n=2, temperature=1, seed=3)
        self.assertEqual([choice.index for choice in answer.choices], [0, 1])
        self.assertNotEqual(*(choice.message.content for choice in answer.choices))
        self.assertEqual(answer.usage.completion_tokens, 2 * TOKENS)
        finished = {}
        for chunk in self.chat(n=2, stream=True):
            (choice,) = chunk.choices
            self.assertNotIn(choice.index, finished)
            if choice.finish_reason:
                finished[choice.index] = choice.finish_reason
        self.assertEqual(finished, {0: "length", 1: "length"})

    def test_an_answer_ends_before_a_stop_text(self):
        whole = self.chat().choices[0].message.content
        middle = whole[len(whole) // 2 :][:2]
        for stop in (middle, ["never written", middle]):
            (choice,) = self.chat(stop=stop).choices
            self.assertEqual((choice.message.content, choice.finish_reason), (whole[: whole.index(middle)], "stop"))

    def test_both_names_of_the_most_tokens_are_kept_to(self):
        for name in ("max_tokens", "max_completion_tokens"):
            answer = self.chat(**{"max_tokens": openai.NOT_GIVEN} | {name: 5})
            self.assertEqual((answer.usage.completion_tokens, answer.choices[0].finish_reason), (5, "length"))

    def test_a_seed_makes_an_answer_repeatable(self):
        def content(**seed):
            return self.chat(temperature=1, top_p=0.95, **seed).choices[0].message.content

        self.assertEqual(content(seed=7), content(seed=7))
        self.assertGreater(len({content(seed=seed) for seed in range(4)}), 1)
        self.assertGreater(len({content() for _ in range(4)}), 1)

    def test_text_parts_and_what_asks_for_nothing_are_accepted(self):
        text = {"type": "text"}
        parts = [text | {"text": "感冒了"}, text | {"text": "怎么办？"}]
        nothing = {"tool_choice": "none", "tools": openai.NOT_GIVEN, "response_format": text, "logprobs": False}
        answer = self.chat(messages=[{"role": "user", "content": parts}], user="someone", **nothing)
        self.assertEqual(answer.usage.completion_tokens, TOKENS)

    def test_a_conversation_goes_on_with_the_message_that_was_read(self):
        first = self.chat()
        then = self.chat(messages=[*QUESTION, first.choices[0].message, {"role": "user", "content": "要去医院吗？"}])
        self.assertGreater(then.usage.prompt_tokens, first.usage.total_tokens)

    def test_what_is_not_done_is_a_bad_request_that_names_the_field(self):
        tool = {"type": "function", "function": {"name": "search", "parameters": {"type": "object", "properties": {}}}}
        image = {"type": "image_url", "image_url": {"url": "https://example.com/x.png"}}
        shown = {"role": "user", "content": [{"type": "text", "text": "这是什么？"}, image]}
        for param, options in (
            ("tools", {"tools": [tool]}),
            ("messages", {"messages": [shown]}),
            ("response_format", {"response_format": {"type": "json_object"}}),
            ("logprobs", {"logprobs": True, "top_logprobs": 2}),
            ("presence_penalty", {"presence_penalty": 1}),
            ("logit_bias", {"logit_bias": {"50256": -100}}),
        ):
            with self.subTest(param):
                bad = (openai.BadRequestError, 400, "unsupported_parameter", param)
                self.refused(*bad, lambda: self.chat(**options))

    def test_a_value_out_of_range_is_a_bad_request_that_names_the_field(self):
        wrong = {"n": 1000, "max_tokens": 10**9, "temperature": 3, "stop": ["x"] * 99, "messages": []}
        for param, value in wrong.items():
            with self.subTest(param):
                self.refused(openai.BadRequestError, 400, "invalid_value", param, lambda: self.chat(**{param: value}))
        # A stream that can't begin is refused in the same way, and not by an event.
        self.refused(openai.BadRequestError, 400, "invalid_value", "n", lambda: self.chat(n=1000, stream=True))

    def test_a_prompt_longer_than_the_model_takes_has_openais_code(self):
        long = [{"role": "user", "content": "头痛，发热，咳嗽。" * 2000}]
        bad = (openai.BadRequestError, 400, "context_length_exceeded", "messages")
        self.refused(*bad, lambda: self.chat(messages=long))

    def test_a_client_that_stops_waiting_leaves_the_worker_answering(self):
        with self.assertRaises(openai.APITimeoutError):
            self.chat(max_tokens=openai.NOT_GIVEN, n=4, timeout=0.02)
        with self.chat(max_tokens=openai.NOT_GIVEN, stream=True) as stream:
            next(iter(stream))
        self.assertEqual(self.chat().usage.completion_tokens, TOKENS)


class Concurrency(Case):
    def test_answers_to_many_at_once_are_each_whole(self):
        async def ask():
            async with AsyncOpenAI(base_url=f"{URL}/v1", api_key=KEY, max_retries=0) as client:

                async def whole(tokens):
                    answer = await client.chat.completions.create(
                        model=self.model, messages=QUESTION, max_tokens=tokens, extra_body=ENDLESS
                    )
                    return answer.id, answer.usage.completion_tokens

                async def streamed(tokens):
                    stream = await client.completions.create(
                        model=self.model,
                        prompt=PROMPT,
                        max_tokens=tokens,
                        stream=True,
                        stream_options={"include_usage": True},
                        extra_body=ENDLESS,
                    )
                    chunks = [chunk async for chunk in stream]
                    return chunks[-1].id, chunks[-1].usage.completion_tokens

                return await asyncio.gather(*map(whole, range(8, 16)), *map(streamed, range(16, 24)))

        answers = asyncio.run(ask())
        self.assertEqual([tokens for _, tokens in answers], list(range(8, 24)))
        self.assertEqual(len({id for id, _ in answers}), len(answers))


class Completions(Case):
    def test_a_continuation_counts_its_tokens(self):
        answer = self.complete()
        (choice,) = answer.choices
        self.assertEqual((answer.object, choice.finish_reason, choice.logprobs), ("text_completion", "length", None))
        self.assertTrue(choice.text)
        self.assertEqual(answer.usage.completion_tokens, TOKENS)

    def test_a_stream_says_what_the_whole_continuation_says_and_then_its_usage(self):
        *chunks, last = self.complete(stream=True, stream_options={"include_usage": True})
        self.assertEqual("".join(chunk.choices[0].text for chunk in chunks), self.complete().choices[0].text)
        self.assertEqual(chunks[-1].choices[0].finish_reason, "length")
        self.assertEqual((last.choices, last.usage.completion_tokens), ([], TOKENS))

    def test_two_continuations_are_told_apart_by_their_index(self):
        self.assertEqual([choice.index for choice in self.complete(n=2, temperature=1).choices], [0, 1])

    def test_one_text_in_a_list_and_tokens_are_prompts_too(self):
        self.assertEqual(self.complete(prompt=[PROMPT]).choices[0].text, self.complete().choices[0].text)
        self.assertEqual(self.complete(prompt=[5, 6, 7]).usage.prompt_tokens, 3)

    def test_what_is_not_done_is_a_bad_request_that_names_the_field(self):
        for param, value in (("echo", True), ("suffix", "。"), ("logprobs", 1), ("best_of", 2)):
            with self.subTest(param):
                bad = (openai.BadRequestError, 400, "unsupported_parameter", param)
                self.refused(*bad, lambda: self.complete(**{param: value}))
        several = (openai.BadRequestError, 400, "invalid_value", "prompt", lambda: self.complete(prompt=["a", "b"]))
        self.refused(*several)


class Embeddings(Case):
    TEXTS = ["高血压有哪些症状？", "怎么预防感冒？", "高血压有哪些症状？"]

    def embed(self, **options):
        return self.client.embeddings.create(**{"model": "encoder", "input": self.TEXTS} | options)

    def test_base64_which_the_package_asks_for_itself_equals_numbers(self):
        packed, numbers = self.embed(), self.embed(encoding_format="float")
        self.assertEqual([vector.index for vector in packed.data], [0, 1, 2])
        for one, other in zip(packed.data, numbers.data, strict=True):
            self.assertEqual(len(one.embedding), len(other.embedding))
            self.assertTrue(all(math.isclose(a, b, abs_tol=1e-6) for a, b in zip(one.embedding, other.embedding)))

    def test_vectors_come_in_the_order_of_their_texts(self):
        first, second, third = (vector.embedding for vector in self.embed().data)
        self.assertEqual(first, third)
        self.assertLess(sum(a * b for a, b in zip(first, second, strict=True)), 0.99)
        alone = self.embed(input=self.TEXTS[1]).data
        self.assertEqual([vector.embedding for vector in alone], [second])

    def test_the_encoders_own_number_of_dimensions_is_the_only_one(self):
        own = len(self.embed().data[0].embedding)
        self.assertEqual(len(self.embed(dimensions=own).data[0].embedding), own)
        bad = (openai.BadRequestError, 400, "unsupported_parameter", "dimensions")
        self.refused(*bad, lambda: self.embed(dimensions=own - 1))

    def test_no_text_and_too_many_are_bad_requests(self):
        for texts in ([], [""], ["x"] * 1000):
            bad = (openai.BadRequestError, 400, "invalid_value", "input", lambda: self.embed(input=texts))
            self.refused(*bad)


@unittest.skipUnless(HASTY_URL, "HUATUO_WORKER_HASTY_URL is not set")
class Haste(Case):
    def setUp(self):
        self.client = client(HASTY_URL)
        self.addCleanup(self.client.close)

    def test_a_late_answer_is_a_server_error(self):
        late = (openai.InternalServerError, 504, "deadline_exceeded", None, lambda: self.complete(n=2, max_tokens=LONG))
        self.refused(*late)

    def test_a_stream_that_is_cut_raises_after_the_text_that_came(self):
        for ask in (self.complete, self.chat):
            chunks = []
            with self.assertRaises(openai.APIError) as raised:
                for chunk in ask(n=2, max_tokens=LONG, stream=True):
                    chunks.append(chunk)
            self.assertEqual(raised.exception.code, "deadline_exceeded")
            self.assertTrue(chunks)

    def test_a_full_queue_is_a_rate_limit_error_once_the_retries_are_used(self):
        with client(HASTY_URL, max_retries=1) as patient, self.assertRaises(openai.RateLimitError) as raised:
            # Three texts have no place in a queue of two, now or later.
            patient.completions.create(model=self.model, prompt=PROMPT, n=3)
        error = raised.exception
        self.assertEqual((error.status_code, error.code), (429, "queue_full"))
        self.assertGreaterEqual(int(error.response.headers["retry-after"]), 1)
        self.assertEqual(error.request.headers["x-stainless-retry-count"], "1")


if __name__ == "__main__":
    unittest.main()
