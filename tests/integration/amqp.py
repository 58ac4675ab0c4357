"""
A client as a user would write one, with pika, through the virtual address.
"""

import pika


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
