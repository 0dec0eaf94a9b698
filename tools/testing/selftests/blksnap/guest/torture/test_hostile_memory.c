// SPDX-License-Identifier: GPL-2.0
/*
 * The memory that hostile callers hand over
 *
 * The pages of an arena are mapped twice.  At one address the module sees them
 * with the protection that the call is about; at the other one they can always
 * be filled and checked.  The module's address is below 2 GiB, so that 32-bit
 * calls reach it, too.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "test_hostile.h"

#define PAGE_BYTES 4096U
#define ZONE_PAGES (ZONE_BYTES / PAGE_BYTES)

/* The zones, each with an empty page behind it. */
#define OPEN_ZONE 0
#define CONSTANT_ZONE (ZONE_PAGES + 1)
#define WILD_ZONE (2 * (ZONE_PAGES + 1))
#define NR_PAGES (3 * (ZONE_PAGES + 1))

/* There are no 32-bit calls elsewhere. */
#ifndef MAP_32BIT
#define MAP_32BIT 0
#endif

/* So many bytes around an object are checked. */
#define MARGIN 256U

static int slow_fd = -1;
static uint8_t *slow_pages;
static unsigned int nr_slow_pages;

/* One page for each arena, on a disk that takes some milliseconds. */
void slow_memory_set_up(unsigned int nr_pages)
{
	nr_slow_pages = nr_pages;
	slow_fd = ASSERT_OK(open(slow_disk.path, O_RDWR | O_CLOEXEC));
	slow_pages = mmap(NULL, nr_pages * PAGE_BYTES, PROT_READ | PROT_WRITE,
			  MAP_SHARED | MAP_32BIT, slow_fd, 0);
	ASSERT(slow_pages != MAP_FAILED);
	ASSERT_OK(madvise(slow_pages, nr_pages * PAGE_BYTES, MADV_RANDOM));
}

void slow_memory_tear_down(void)
{
	if (slow_fd < 0)
		return;
	munmap(slow_pages, nr_slow_pages * PAGE_BYTES);
	close(slow_fd);
	slow_fd = -1;
}

static void must_have(bool ok, const char *what)
{
	if (ok)
		return;
	ktap_note("%s: %s", what, strerror(errno));
	exit(KTAP_FAIL);
}

void arena_create(struct arena *arena, unsigned int slow_page)
{
	const size_t nr_bytes = NR_PAGES * PAGE_BYTES;
	int fd = memfd_create("arena", MFD_CLOEXEC);

	must_have(fd >= 0 && !ftruncate(fd, nr_bytes), "memory for an arena");
	arena->own = mmap(NULL, nr_bytes, PROT_READ | PROT_WRITE, MAP_SHARED,
			  fd, 0);
	arena->user = mmap(NULL, nr_bytes, PROT_READ | PROT_WRITE,
			   MAP_SHARED | MAP_32BIT, fd, 0);
	must_have(arena->own != MAP_FAILED && arena->user != MAP_FAILED,
		  "mapping an arena");
	close(fd);
	mprotect(arena->user + (CONSTANT_ZONE - 1) * PAGE_BYTES, PAGE_BYTES,
		 PROT_NONE);
	mprotect(arena->user + CONSTANT_ZONE * PAGE_BYTES, ZONE_BYTES, PROT_READ);
	mprotect(arena->user + (WILD_ZONE - 1) * PAGE_BYTES, PAGE_BYTES,
		 PROT_NONE);
	mprotect(arena->user + (NR_PAGES - 1) * PAGE_BYTES, PAGE_BYTES, PROT_NONE);
	memset(arena->own, POISON, nr_bytes);
	pthread_mutex_init(&arena->lock, NULL);
	arena->nr_wild = 0;
	arena->slow = slow_pages + slow_page * PAGE_BYTES;
}

void arena_destroy(struct arena *arena)
{
	munmap(arena->own, NR_PAGES * PAGE_BYTES);
	munmap(arena->user, NR_PAGES * PAGE_BYTES);
}

/* From now on the meddler may write to these words, or to none. */
void arena_let_meddle(struct arena *arena, void *words, size_t nr_words)
{
	pthread_mutex_lock(&arena->lock);
	arena->wild = words;
	arena->nr_wild = nr_words;
	pthread_mutex_unlock(&arena->lock);
}

/* A number grows, shrinks, or becomes absurd, and then is right again. */
static void meddle_with_word(wild_word *word, struct random *random)
{
	uint32_t before = *word;

	switch (random_below(random, 3)) {
	case 0:
		*word += random_below(random, 3) - 1;
		break;
	case 1:
		*word ^= 1U << random_below(random, 32);
		break;
	default:
		*word = random_next(random);
		break;
	}
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	if (random_below(random, 2))
		*word = before;
}

/* What a thread beside the caller does to its memory during its calls. */
void arena_meddle(struct arena *arena, struct random *random)
{
	static const int protections[] = {
		PROT_NONE, PROT_READ, PROT_READ | PROT_WRITE,
		PROT_READ | PROT_WRITE,
	};
	uint64_t page = WILD_ZONE + random_below(random, ZONE_PAGES);
	uint8_t *user = arena->user + page * PAGE_BYTES;

	if (!random_below(random, 8))
		mprotect(user, PAGE_BYTES, protections[random_below(random, 4)]);
	else if (!random_below(random, 8))
		madvise(user, PAGE_BYTES, MADV_DONTNEED);
	pthread_mutex_lock(&arena->lock);
	if (arena->nr_wild)
		meddle_with_word(arena->wild + random_below(random, arena->nr_wild),
				 random);
	pthread_mutex_unlock(&arena->lock);
}

static void place_in_zone(struct caller *caller, struct arena *arena,
			  unsigned int zone, struct memory *memory)
{
	size_t room = ZONE_BYTES - memory->nr_bytes;
	size_t at;

	switch (pick(caller, 4)) {
	case 0:
		at = room;		/* the next byte is out of reach */
		break;
	case 1:
		/* Across the border of two pages, if it is long enough. */
		at = PAGE_BYTES - 1 - pick(caller, memory->nr_bytes + 1);
		if (at > room)
			at = 0;
		break;
	case 2:
		at = pick(caller, room + 1);
		break;
	default:
		at = pick(caller, room / 8 + 1) * 8;
		break;
	}
	memory->user = arena->user + zone * PAGE_BYTES + at;
	memory->own = arena->own + zone * PAGE_BYTES + at;
	memory->before = at < MARGIN ? at : MARGIN;
	memory->behind = room - at < MARGIN ? room - at : MARGIN;
	memory->is_readable = true;
	memory->is_writable = zone != CONSTANT_ZONE;
	memory->is_wild = zone == WILD_ZONE;
}

/* Begins where there is memory and ends where there is none. */
static void place_at_the_edge(struct caller *caller, struct arena *arena,
			      struct memory *memory)
{
	size_t inside = pick(caller, memory->nr_bytes < ZONE_BYTES ?
				     memory->nr_bytes : ZONE_BYTES);

	memory->user = arena->user + ZONE_BYTES - inside;
	memory->head = arena->own + ZONE_BYTES - inside;
	memory->nr_head_bytes = inside;
}

static void place_nowhere(struct caller *caller, struct arena *arena,
			  struct memory *memory)
{
	void *const places[] = {
		NULL,
		(void *)1UL,
		arena->user + ZONE_BYTES,
		(void *)0xfffff000UL,
		(void *)0xfffffffffffff000UL,	/* of the kernel */
		(void *)0xffff888000001000UL,
		(void *)0x8000000000000000UL,	/* of nobody */
		(void *)0x00007ffffffff000UL,	/* the end of user space */
		(void *)~0UL,
	};

	memory->user = places[pick(caller, ARRAY_SIZE(places))];
}

static void place_slowly(struct arena *arena, struct memory *memory)
{
	memory->user = arena->slow;
	memory->own = arena->slow;
	memory->behind = PAGE_BYTES - memory->nr_bytes;
	memory->is_readable = true;
	memory->is_writable = true;
}

/**
 * memory_place() - find a place for an argument or an array
 * @caller:	whose memory it is to be
 * @arena:	where
 * @nr_bytes:	size of the object
 * @memory:	filled in; to be filled by the caller, at @memory->own
 */
void memory_place(struct caller *caller, struct arena *arena, size_t nr_bytes,
		  struct memory *memory)
{
	memset(memory, 0, sizeof(*memory));
	memory->nr_bytes = nr_bytes;
	if (chance(caller, 48))
		place_nowhere(caller, arena, memory);
	else if (nr_bytes > ZONE_BYTES || (nr_bytes && chance(caller, 48)))
		place_at_the_edge(caller, arena, memory);
	else if (chance(caller, 24))
		place_in_zone(caller, arena, CONSTANT_ZONE, memory);
	else if (nr_bytes <= PAGE_BYTES && chance(caller, 1000))
		place_slowly(arena, memory);
	else if (!caller->is_alone && chance(caller, 8))
		place_in_zone(caller, arena, WILD_ZONE, memory);
	else
		place_in_zone(caller, arena, OPEN_ZONE, memory);
	if (memory->own)
		memset(memory->own - memory->before, POISON,
		       memory->before + nr_bytes + memory->behind);
}

/* Called when it is filled; what is slow has to be fetched again. */
void memory_settle(struct arena *arena, const struct memory *memory)
{
	if (!memory->own || memory->own != arena->slow)
		return;
	msync(arena->slow, PAGE_BYTES, MS_SYNC);
	madvise(arena->slow, PAGE_BYTES, MADV_DONTNEED);
	posix_fadvise(slow_fd, arena->slow - slow_pages, PAGE_BYTES,
		      POSIX_FADV_DONTNEED);
}

bool memory_is_intact_around(const struct memory *memory)
{
	if (!memory->own || memory->is_wild)
		return true;
	return is_filled_with(memory->own - memory->before, POISON,
			      memory->before) &&
	       is_filled_with(memory->own + memory->nr_bytes, POISON,
			      memory->behind);
}
