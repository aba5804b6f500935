"""Claims that share a pipeline to Redis: who gets which answer, and what a failure touches."""

from __future__ import annotations

import asyncio
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis import RedisCluster
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError
from redis_server import redis_server  # noqa: F401  a fixture

from tcaptcha_middleware import ReplayStoreError
from tcaptcha_middleware.replay import pipeline
from tcaptcha_middleware.replay.pipeline import AsyncPipeline, Pipeline
from tcaptcha_middleware.replay.redis import RedisReplayStore


class Keys:
    """The keys of a Redis, and what it was sent, one list for each transmission."""

    def __init__(self):
        self.values = {}
        self.sent = []

    def run(self, commands):
        self.sent.append(commands)
        return [self.set(*command[1:3]) for command in commands]

    def set(self, key, token):
        if key == "bad":
            return ResponseError("bad key")
        return True if self.values.setdefault(key, token) is token else None

    @property
    def tokens(self):
        return [token for commands in self.sent for _, _, token in commands]


class ConnectionPool:
    disconnected = 0

    def disconnect(self, *, inuse_connections):
        assert not inuse_connections
        self.disconnected += 1


class AsyncConnectionPool(ConnectionPool):
    async def disconnect(self, *, inuse_connections):
        super().disconnect(inuse_connections=inuse_connections)


class FakeRedis:
    """A client whose `transmit` answers a list of commands."""

    def __init__(self, transmit, pool):
        self.transmit, self.connection_pool = transmit, pool

    def pipeline(self, *, transaction):
        assert transaction is False
        return FakePipeline(self.transmit)


class SyncRedis(FakeRedis):
    def execute_command(self, *command):
        return first(self.transmit([command]))


class AsyncRedis(FakeRedis):
    async def execute_command(self, *command):
        return first(await self.transmit([command]))


def first(answers):
    if isinstance(answers[0], Exception):
        raise answers[0]
    return answers[0]


class FakePipeline:
    def __init__(self, transmit):
        self.transmit, self.commands = transmit, []

    def execute_command(self, *command):
        self.commands.append(command)

    def execute(self, *, raise_on_error):
        assert raise_on_error is False
        return self.transmit(self.commands)


class Scripted:
    """An asyncio client and the claims on it. Each transmission waits for `answer`."""

    def __init__(self):
        self.keys, self.pool = Keys(), AsyncConnectionPool()
        self.transmissions = []
        self.pipeline = AsyncPipeline(AsyncRedis(self.transmit, self.pool))
        self.tasks = []

    async def transmit(self, commands):
        # Redis has run them, whether the answers arrive or not.
        answers, arrives = self.keys.run(commands), asyncio.get_running_loop().create_future()
        self.transmissions.append(arrives)
        await arrives
        return answers

    async def claim(self, key):
        token = f"token {len(self.tasks)}"
        self.tasks.append(asyncio.create_task(self.pipeline.execute("SET", key, token)))
        await settled()

    async def answer(self, error=None):
        for arrives in self.transmissions:
            if not arrives.done():
                arrives.set_result(None) if error is None else arrives.set_exception(error)
        await settled()

    async def outcomes(self):
        return await asyncio.gather(*self.tasks, return_exceptions=True)


async def settled():
    for _ in range(8):
        await asyncio.sleep(0)


def scripted(script):
    async def main():
        return await script(Scripted())

    return asyncio.run(main())


# -- On asyncio ------


def test_claims_that_arrive_while_one_is_under_way_share_a_pipeline():
    async def script(redis):
        for key in "abcd":
            await redis.claim(key)
        await redis.answer()
        await redis.claim("e")
        await redis.answer()
        await redis.answer()
        assert [len(commands) for commands in redis.keys.sent] == [1, 3, 1]
        return await redis.outcomes()

    assert scripted(script) == [True] * 5


STEPS = st.one_of(
    st.tuples(st.just("claim"), st.sampled_from(["a", "b", "c", "bad"])),
    st.tuples(st.just("cancel"), st.integers(0, 30)),
    st.tuples(st.just("answer"), st.none()),
    st.tuples(st.just("fail"), st.sampled_from([RedisConnectionError, RedisTimeoutError])),
)


@given(st.lists(STEPS, max_size=40))
def test_no_claim_is_sent_twice_or_answered_for_another(steps):
    async def script(redis):
        for step, value in steps:
            if step == "claim":
                await redis.claim(value)
            elif step == "answer":
                await redis.answer()
            elif step == "fail":
                await redis.answer(value())
            elif value < len(redis.tasks):
                redis.tasks[value].cancel()
                await settled()
        while not all(task.done() for task in redis.tasks):
            await redis.answer()
        return redis.keys, await redis.outcomes()

    keys, outcomes = scripted(script)
    assert len(keys.tokens) == len(set(keys.tokens))
    owners = set(keys.values.values())
    for number, outcome in enumerate(outcomes):
        token = f"token {number}"
        if not isinstance(outcome, BaseException):
            assert token in keys.tokens
            assert (outcome is True) == (token in owners)
        else:
            assert isinstance(outcome, (ReplayStoreError, asyncio.CancelledError))


def test_a_cancelled_sender_takes_no_answer_from_those_that_wait():
    async def script(redis):
        for key in "abc":
            await redis.claim(key)
        redis.tasks[0].cancel()
        await settled()
        await redis.answer()
        return await redis.outcomes()

    cancelled, *others = scripted(script)
    assert isinstance(cancelled, asyncio.CancelledError)
    assert others == [True, True]


def test_a_claim_that_is_cancelled_while_it_waits_is_not_sent():
    async def script(redis):
        for key in "ab":
            await redis.claim(key)
        redis.tasks[1].cancel()
        await redis.answer()
        await redis.claim("c")
        await redis.answer()
        await redis.outcomes()
        return redis.keys.tokens

    assert scripted(script) == ["token 0", "token 2"]


def test_a_claim_that_is_cancelled_after_it_was_sent_takes_no_answer_from_others():
    async def script(redis):
        for key in "abc":
            await redis.claim(key)
        await redis.answer()
        redis.tasks[1].cancel()
        await redis.answer()
        return [outcome is True for outcome in await redis.outcomes()]

    assert scripted(script) == [True, False, True]


def test_claims_whose_sender_is_cancelled_before_it_begins_are_sent_with_the_next():
    async def script(redis):
        for key in "ab":
            await redis.claim(key)
        redis.transmissions[0].set_result(None)
        while redis.pipeline._sending is None:  # noqa: ASYNC110  each turn of the loop counts
            await asyncio.sleep(0)
        redis.pipeline._sending.cancel()
        await settled()
        await redis.claim("c")
        await redis.answer()
        return await asyncio.wait_for(redis.outcomes(), 10)

    assert scripted(script) == [True] * 3


def test_an_error_of_one_command_fails_its_own_claim_only():
    async def script(redis):
        for key in ("a", "bad", "b"):
            await redis.claim(key)
        await redis.answer()
        await redis.answer()
        return await redis.outcomes()

    true, error, also_true = scripted(script)
    assert str(error) == "Redis: ResponseError"
    assert true is also_true is True


def test_after_a_timeout_the_claims_that_wait_fail_and_are_not_sent():
    async def script(redis):
        for key in "abc":
            await redis.claim(key)
        await redis.answer(RedisTimeoutError())
        outcomes = [str(outcome) for outcome in await redis.outcomes()]
        return outcomes, redis.keys.tokens, redis.pool.disconnected

    assert scripted(script) == (["Redis: TimeoutError"] * 3, ["token 0"], 1)


def test_after_a_lost_connection_the_claims_that_wait_are_sent():
    async def script(redis):
        for key in "abc":
            await redis.claim(key)
        await redis.answer(RedisConnectionError())
        await redis.answer()
        error, *others = await redis.outcomes()
        return str(error), others

    assert scripted(script) == ("Redis: ConnectionError", [True, True])


def test_an_unexpected_error_is_raised_as_it_is():
    async def script(redis):
        await redis.claim("a")
        await redis.answer(ZeroDivisionError("bug"))
        return await redis.outcomes()

    assert [str(error) for error in scripted(script)] == ["bug"]


def test_a_command_that_is_sent_alone_fails_alone():
    async def script(redis):
        await redis.claim("a")
        redis.tasks.append(
            asyncio.create_task(redis.pipeline.execute_alone("INFO", "bad", "none"))
        )
        await settled()
        await redis.answer()
        return [str(outcome) for outcome in await redis.outcomes()]

    assert scripted(script) == ["True", "Redis: ResponseError"]


class AsyncCluster(AsyncRedis, RedisCluster):
    pass


class SyncCluster(SyncRedis, RedisCluster):
    pass


def test_commands_to_a_cluster_are_sent_one_by_one():
    async def main():
        await asyncio.gather(*(several.execute("SET", key, key) for key in "abc"))

    async def transmit(commands):
        await asyncio.sleep(0)
        return keys.run(commands)

    keys = Keys()
    several = AsyncPipeline(AsyncCluster(transmit, None))
    asyncio.run(main())
    assert Pipeline(SyncCluster(keys.run, None)).execute("SET", "d", "d")
    assert [len(commands) for commands in keys.sent] == [1, 1, 1, 1]


# -- In threads ------


class Held:
    """A sync client whose first transmission waits until `release` is set."""

    def __init__(self, error=None):
        self.keys, self.pool = Keys(), ConnectionPool()
        self.reached, self.release = threading.Event(), threading.Event()
        self.error = error
        self.pipeline = Pipeline(SyncRedis(self.transmit, self.pool))

    def transmit(self, commands):
        answers = self.keys.run(commands)
        if not self.reached.is_set():
            self.reached.set()
            assert self.release.wait(10)
            if self.error is not None:
                raise self.error
        return answers

    def claims(self, keys):
        """Return the outcomes of claims, of which all but the first arrive meanwhile."""
        with ThreadPoolExecutor(len(keys)) as threads:
            futures = []
            for number, key in enumerate(keys):
                futures.append(threads.submit(self.outcome, key, f"token {number}"))
                assert self.reached.wait(10)
                deadline = time.monotonic() + 10
                while len(self.pipeline._queue) < number:
                    assert time.monotonic() < deadline
            self.release.set()
            return [future.result(10) for future in futures]

    def outcome(self, key, token):
        try:
            return self.pipeline.execute("SET", key, token)
        except (Exception, KeyboardInterrupt) as error:
            return str(error)


def test_claims_of_threads_that_arrive_meanwhile_share_a_pipeline():
    redis = Held()
    assert redis.claims(["a", "b", "a", "c", "bad"]) == [
        True,
        True,
        None,
        True,
        "Redis: ResponseError",
    ]
    assert [len(commands) for commands in redis.keys.sent] == [1, 4]
    assert not redis.pipeline._is_busy


@pytest.mark.parametrize("error", [RedisTimeoutError(), TimeoutError()])
def test_after_a_timeout_the_threads_that_wait_fail_and_send_nothing(error):
    redis = Held(error)
    assert redis.claims("abc") == ["Redis: TimeoutError"] * 3
    assert redis.keys.tokens == ["token 0"]
    assert redis.pool.disconnected == 1
    assert redis.pipeline.execute("SET", "d", "d")


def test_after_a_lost_connection_the_threads_that_wait_send():
    redis = Held(RedisConnectionError())
    assert redis.claims("abc") == ["Redis: ConnectionError", True, True]


def test_an_interrupted_sender_closes_its_connection_and_the_next_thread_sends():
    redis = Held(KeyboardInterrupt("ended"))
    assert redis.claims("abc") == ["ended", True, True]
    # Its answers would otherwise be read as those of the next commands.
    assert redis.pool.disconnected == 1


def test_claims_in_the_pipeline_of_an_interrupted_sender_fail():
    def transmit(commands):
        if len(commands) > 1:
            raise KeyboardInterrupt("ended")
        return held(commands)

    redis = Held()
    held, redis.pipeline._client.transmit = redis.transmit, transmit
    assert redis.claims("abc") == [True, "ended", "Redis: the command was interrupted"]
    assert redis.pipeline.execute("SET", "d", "d")


def test_a_thread_that_is_interrupted_while_it_waits_leaves_the_queue(monkeypatch):
    class Interrupted(pipeline.Waiting):
        def __init__(self, command):
            super().__init__(command)
            if command[1] == "b":
                self.turn = self

        def acquire(self):
            raise KeyboardInterrupt("ended")

    monkeypatch.setattr(pipeline, "Waiting", Interrupted)
    redis = Held()
    with ThreadPoolExecutor(1) as threads:
        future = threads.submit(redis.outcome, "a", "token 0")
        assert redis.reached.wait(10)
        assert redis.outcome("b", "token 1") == "ended"
        redis.release.set()
        assert future.result(10) is True
    assert redis.keys.tokens == ["token 0"]
    assert redis.pipeline.execute("SET", "c", "token 2")


# -- With a real Redis ------


def test_of_many_claims_in_threads_and_loops_each_key_has_one_winner(redis_server):  # noqa: F811
    redis_server.command("FLUSHALL")
    store = RedisReplayStore(redis_server.url, timeout=5)
    names = [f"key {number}" for number in range(40)]

    def in_thread(thread):
        return [store.claim(name, f"{thread}", 60) for name in names]

    def in_loop(loop):
        async def main():
            try:
                return await asyncio.gather(
                    *(store.aclaim(name, f"{loop}", 60) for name in names)
                )
            finally:
                await store.aclose()

        return asyncio.run(main())

    with ThreadPoolExecutor(8) as threads:
        runs = [in_thread] * 4 + [in_loop] * 4
        claimed = list(threads.map(lambda run, number: run(number), runs, range(8)))
    store.close()
    for number, name in enumerate(names):
        winners = [str(run) for run, answers in enumerate(claimed) if answers[number]]
        assert winners == [redis_server.command("GET", f"tcaptcha:claim:{name}")]
