"""
Clients as a user would write them, with pika, through the virtual address.
"""

import contextlib
import threading
import time

import pika
import pika.exceptions

from tests.integration.lab import VIRTUAL_ADDRESS, wait_until


def publish(connection, queue, count, start=0):
    """Publish persistent messages, each confirmed; returns the set of their bodies."""
    channel = connection.channel()
    channel.confirm_delivery()
    channel.queue_declare(queue, durable=True)
    sent = set()
    properties = pika.BasicProperties(delivery_mode=pika.DeliveryMode.Persistent)
    for number in range(start, start + count):
        body = f"message {number}".encode()
        channel.basic_publish("", queue, body, properties, mandatory=True)
        sent.add(body)
    channel.close()
    return sent


def consume(connection, queue, count, seconds=20):
    """Consume and acknowledge until ``count`` have come or none comes; then delete the queue."""
    channel = connection.channel()
    came = set()
    for method, _, body in channel.consume(queue, inactivity_timeout=seconds):
        if method is None:
            break
        came.add(body)
        channel.basic_ack(method.delivery_tag)
        if len(came) == count:
            break
    channel.cancel()
    channel.queue_delete(queue)
    channel.close()
    return came


class Publisher(threading.Thread):
    """
    Publishes through the address, each message confirmed, connecting again when it must.

    ``confirmed`` is the set of what was confirmed, ``gap`` the longest time between two, or from
    the last one to the end, ``failure`` what ended it before it was told to end.
    """

    QUEUE = "test.published"

    def __init__(self, lab):
        super().__init__(daemon=True)
        admin = lab.secret("broker")["rabbitmq"]["users"]["admin"]
        self._lab = lab
        self._parameters = pika.ConnectionParameters(
            host=VIRTUAL_ADDRESS,
            credentials=pika.PlainCredentials("admin", admin["password"]),
            socket_timeout=1,
            stack_timeout=3,
            heartbeat=2,
        )
        self._stop_it = threading.Event()
        self.confirmed, self.gap, self.connections = set(), 0.0, 0
        self.failure = None

    def __enter__(self):
        self.start()
        wait_until(lambda: self.confirmed, 20, lambda: "nothing was confirmed")
        return self

    def __exit__(self, *_):
        self._stop_it.set()
        self.join(timeout=60)
        assert not self.is_alive()
        assert self.failure is None, self.failure

    def run(self):
        try:
            last = self._publish()
        except Exception as err:
            self.failure = err
        else:
            self.gap = max(self.gap, time.monotonic() - last)

    def _publish(self):
        """Publish until told to end; returns when the last message was confirmed."""
        last, number = None, 0
        while not self._stop_it.is_set():
            try:
                with contextlib.closing(pika.BlockingConnection(self._parameters)) as connection:
                    self.connections += 1
                    channel = connection.channel()
                    channel.confirm_delivery()
                    channel.queue_declare(self.QUEUE, durable=True)
                    while not self._stop_it.is_set():
                        body = f"message {number}".encode()
                        properties = pika.BasicProperties(delivery_mode=2)
                        channel.basic_publish("", self.QUEUE, body, properties, mandatory=True)
                        now = time.monotonic()
                        self.gap = max(self.gap, now - (last or now))
                        last = now
                        self.confirmed.add(body)
                        number += 1
                        time.sleep(0.02)
            except (pika.exceptions.AMQPError, OSError):
                # The one under way may or may not have arrived; it is sent under another number.
                number += 1
                time.sleep(0.05)
        return last

    def assert_nothing_is_lost(self):
        """See that what was confirmed comes back, and delete the queue."""
        with self._lab.amqp() as connection:
            channel = connection.channel()
            there = channel.queue_declare(self.QUEUE, durable=True).method.message_count
            channel.close()
            assert self.confirmed <= consume(connection, self.QUEUE, there)
