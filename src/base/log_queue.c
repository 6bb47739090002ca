/* The queue of the log: see log_queue.h. */
#include "log_queue.h"
#include "memory.h"

#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/eventfd.h>

/* What the writer does, as far as those who log have to know. */
enum writer_state {
	WRITER_BUSY,     /* looks at the queue again before it sleeps: leave it alone */
	WRITER_PAUSING,  /* wake it if it is urgent */
	WRITER_SLEEPING, /* wake it */
};

static struct {
	pthread_mutex_t lock;
	char *bytes; /* being filled */
	size_t length;
	uint64_t dropped;
	bool urgent; /* there is reason to write soon */
	enum writer_state writer;
	bool open;
	int wake_fd;
} queue = {.lock = PTHREAD_MUTEX_INITIALIZER};

static atomic_uint_fast64_t lost;

uint64_t log_lost(void)
{
	return atomic_load_explicit(&lost, memory_order_relaxed);
}

void log_lost_add(uint64_t lines)
{
	atomic_fetch_add_explicit(&lost, lines, memory_order_relaxed);
}

void log_queue_open(int wake_fd)
{
	pthread_mutex_lock(&queue.lock);
	if (!queue.bytes)
		queue.bytes = xmalloc(LOG_BUFFER);
	queue.length = 0;
	queue.dropped = 0;
	queue.urgent = false;
	queue.writer = WRITER_BUSY;
	queue.wake_fd = wake_fd;
	queue.open = true;
	pthread_mutex_unlock(&queue.lock);
}

void log_queue_close(void)
{
	pthread_mutex_lock(&queue.lock);
	queue.open = false;
	pthread_mutex_unlock(&queue.lock);
}

/* With the lock held. Once one line was dropped, all are until the writer comes, so that it can say where they are
 * missing. */
static void add_line(const char *line, size_t length)
{
	if (queue.dropped || length > LOG_BUFFER - queue.length) {
		queue.dropped++;
		log_lost_add(1);
		return;
	}
	memcpy(queue.bytes + queue.length, line, length);
	queue.length += length;
}

/* With the lock held: once the queue is closed the descriptor may be gone. */
static void wake_writer(void)
{
	if (queue.writer == WRITER_SLEEPING || (queue.writer == WRITER_PAUSING && queue.urgent)) {
		queue.writer = WRITER_BUSY;
		eventfd_write(queue.wake_fd, 1);
	}
}

bool log_queue_push(const char *line, size_t length, bool urgent)
{
	bool open;

	pthread_mutex_lock(&queue.lock);
	open = queue.open;
	if (open) {
		add_line(line, length);
		queue.urgent |= urgent || queue.length >= LOG_BUFFER / 2;
		wake_writer();
	}
	pthread_mutex_unlock(&queue.lock);
	return open;
}

bool log_queue_take(struct log_batch *batch)
{
	bool something;

	if (!batch->bytes)
		batch->bytes = xmalloc(LOG_BUFFER);
	pthread_mutex_lock(&queue.lock);
	something = queue.length > 0 || queue.dropped > 0;
	queue.writer = something ? WRITER_BUSY : WRITER_SLEEPING;
	if (something) {
		char *filled = queue.bytes;

		queue.bytes = batch->bytes;
		batch->bytes = filled;
	}
	batch->length = queue.length;
	batch->dropped = queue.dropped;
	queue.length = 0;
	queue.dropped = 0;
	queue.urgent = false;
	pthread_mutex_unlock(&queue.lock);
	return something;
}

bool log_queue_pause(void)
{
	bool pause;

	pthread_mutex_lock(&queue.lock);
	pause = !queue.urgent;
	queue.writer = pause ? WRITER_PAUSING : WRITER_BUSY;
	pthread_mutex_unlock(&queue.lock);
	return pause;
}
