# Runs moto's server. Its queues are mended first: how long they take, what threads do to one another, which visibility
# timeout holds, that they are fair, and that they keep tracing headers. So are the rules of its event buses. fifo.py,
# which runs before this, mends FIFO queues. All else that they do is left as it is.
import runpy
import sys
import threading
import time
from collections import Counter
from urllib.parse import unquote

from moto.events.models import EventTemplateParser
from moto.sqs import models
from moto.sqs.responses import SQSResponse

# Python may hand over from one thread to another in the middle of a call. moto's queues know no locks, so a message that
# is sent while others are deleted could be lost, and one be given to two receivers. Without that, a thread hands over
# only where it waits.
sys.setswitchinterval(3600)

# For each message handed out, moto counts all messages of the queue several times over, on a slow clock: 15 ms a message
# at 200 waiting.
models.unix_time = time.time
models.unix_time_millis = lambda: time.time() * 1000


def is_retained(self, queue_name, message):
    return message.sent_timestamp / 1000 + self.get_queue(queue_name).message_retention_period > time.time()


models.SQSBackend.is_message_valid_based_on_retention_period = is_retained


# What a queue has for a visibility timeout holds for messages from the moment on in which they are handed out. moto
# reads it when a receiver comes, which may have to wait for a message: one sent a second after SetQueueAttributes would
# come back after the old time.
class OfTheQueue:
    def __init__(self, queue):
        self.queue = queue

    def __int__(self):
        return int(self.queue.visibility_timeout)


visibility_timeout_asked_for = SQSResponse._get_validated_visibility_timeout


def visibility_timeout(self, timeout=None):
    asked = timeout is not None or self._get_param("VisibilityTimeout") is not None
    if asked or self._get_action() != "ReceiveMessage":
        return visibility_timeout_asked_for(self, timeout)
    return OfTheQueue(self.sqs_backend.get_queue(self._get_queue_name()))


SQSResponse._get_validated_visibility_timeout = visibility_timeout


# Fair queues: a MessageGroupId on a standard queue names a tenant, and one that has many messages in flight comes after
# those that have few. moto takes the id there and hands out whatever is oldest. Here a message's turn comes by how many
# of its group are in flight or before it, oldest first among equals; one without a group is a group of its own. SQS calls
# a tenant noisy that has 30 messages and a tenth of all in flight, or a tenth of the consumers' time; among noisy ones
# the fewest in flight come first. Here that order holds at once and for all.
# https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-fair-queues.html
def by_turn(queue):
    waiting = [message for message in queue._messages if message.visible and not message.delayed]
    if not any(message.group_id for message in waiting):
        return waiting
    before = Counter(message.group_id for message in queue._messages if message.group_id and not message.visible)
    turns = {}
    for message in waiting:
        turns[message] = before[message.group_id] if message.group_id else 0
        before[message.group_id] += 1
    return sorted(waiting, key=turns.get)


models.Queue.messages = property(by_turn)


# SQS keeps the X-Amzn-Trace-Id of a SendMessage or SendMessageBatch as the AWSTraceHeader of its messages, unless the
# sender gives one. moto drops it, and does not look at the message system attributes of a batch at all. The SDK
# percent-encodes the header.
# https://docs.aws.amazon.com/xray/latest/devguide/xray-services-sqs.html
sending = threading.local()


def traced(action):
    def call(self):
        sending.header = unquote(self.headers.get("X-Amzn-Trace-Id") or "")
        try:
            return action(self)
        finally:
            sending.header = ""

    return call


SQSResponse.send_message = traced(SQSResponse.send_message)
SQSResponse.send_message_batch = traced(SQSResponse.send_message_batch)
send_message = models.SQSBackend.send_message


def send_message_traced(self, *args, system_attributes=None, **kwargs):
    header = getattr(sending, "header", "")
    if header and "AWSTraceHeader" not in (system_attributes or {}):
        own = {"AWSTraceHeader": {"DataType": "String", "StringValue": header}}
        system_attributes = {**(system_attributes or {}), **own}
    return send_message(self, *args, system_attributes=system_attributes, **kwargs)


models.SQSBackend.send_message = send_message_traced


# A rule without an input transformer hands its targets the event as it is. moto rewrites it all the same, with a module
# that nothing else needs, and loses members.
def as_it_is(input_template, input_paths_map, event):
    return {name: value for name, value in event.items() if name != "ingestion-time"}


EventTemplateParser.parse = staticmethod(as_it_is)

runpy.run_module("moto.server", run_name="__main__", alter_sys=True)
