// SPDX-License-Identifier: GPL-2.0
/*
 * A filesystem that is worked on while snapshots of it are taken
 *
 * Each thread overwrites chunks of files of its own, so a chunk has one version
 * after the other.  The take freezes the filesystem: a version that was written
 * before the take began has to be in the image, or a later one, and none that
 * was begun after the take has ended.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "test_torture.h"

#define ORIGIN_DIR "/tmp/torture-origin"
#define IMAGE_DIR "/tmp/torture-image"
#define NR_FILES 8U
#define NR_CHUNKS 64U
#define CHUNK_BYTES 16384U
#define NR_SMALL 64U

struct chunk {
	atomic_uint begun;
	atomic_uint done;
	/* As of the take: what must be there, what can be. */
	unsigned int least;
	unsigned int most;
};

static struct {
	struct medium *medium;
	struct chunk chunks[NR_FILES][NR_CHUNKS];
	pthread_mutex_t locks[NR_FILES];
	int fds[NR_FILES][2];	/* through the page cache and past it */
} files;

static void fill_chunk(void *chunk, unsigned int file, unsigned int index,
		       unsigned int version)
{
	uint64_t *words = chunk;
	unsigned int i;

	for (i = 0; i < CHUNK_BYTES / sizeof(*words); i++)
		words[i] = (uint64_t)version << 32 | file << 24 | index << 16 |
			   i;
}

/* --- writing --- */

static void write_chunk(struct worker *worker, unsigned int f)
{
	struct random *random = &worker->random;
	const unsigned int c = random_below(random, NR_CHUNKS);
	struct chunk *chunk = &files.chunks[f][c];
	const unsigned int version = chunk->begun + 1;
	const bool is_direct = !random_below(random, 3);
	const int fd = files.fds[f][is_direct];

	fill_chunk(worker->buffer, f, c, version);
	atomic_store(&chunk->begun, version);
	worker_doing(worker, "writing to a file");
	if (pwrite(fd, worker->buffer, CHUNK_BYTES, c * CHUNK_BYTES) !=
	    CHUNK_BYTES) {
		fault_add(FAULT_IO, "writing to a file: %s", strerror(errno));
		return;
	}
	atomic_store(&chunk->done, version);
	worker_doing(worker, "syncing a file");
	if (!random_below(random, 8) && fsync(fd))
		fault_add(FAULT_IO, "syncing a file: %s", strerror(errno));
}

/* Work for the journal and the allocator. */
static void change_names(struct worker *worker)
{
	struct random *random = &worker->random;
	char path[80], other[80];
	int fd;

	snprintf(path, sizeof(path), ORIGIN_DIR "/small%u",
		 (unsigned int)random_below(random, NR_SMALL));
	snprintf(other, sizeof(other), ORIGIN_DIR "/small%u",
		 (unsigned int)random_below(random, NR_SMALL));
	worker_doing(worker, "creating and removing files");
	switch (random_below(random, 4)) {
	case 0:
		unlink(path);
		break;
	case 1:
		rename(path, other);
		break;
	default:
		fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
		if (fd < 0)
			break;
		if (write(fd, worker->buffer,
			  1 + random_below(random, 65536)) < 0 &&
		    errno != ENOSPC)
			fault_add(FAULT_IO, "writing to a small file: %s",
				  strerror(errno));
		close(fd);
	}
}

static void trim(void)
{
	struct fstrim_range range = { .len = UINT64_MAX };
	int fd = open(ORIGIN_DIR, O_RDONLY | O_CLOEXEC);

	if (fd >= 0 && ioctl(fd, FITRIM, &range) && errno != EOPNOTSUPP)
		fault_add(FAULT_IO, "FITRIM: %s", strerror(errno));
	close(fd);
}

/* Do something to some file; worker_fn. */
void files_work(struct worker *worker)
{
	struct random *random = &worker->random;
	const unsigned int f = random_below(random, NR_FILES);

	switch (random_below(random, 16)) {
	case 0:
		worker_doing(worker, "FITRIM");
		trim();
		break;
	case 1:
	case 2:
	case 3:
		change_names(worker);
		break;
	default:
		pthread_mutex_lock(&files.locks[f]);
		write_chunk(worker, f);
		pthread_mutex_unlock(&files.locks[f]);
	}
	worker_doing(worker, "resting");
	sleep_ms(random_below(random, 5));
}

/* --- judging --- */

void files_before_take(void)
{
	unsigned int f, c;

	for (f = 0; f < NR_FILES; f++)
		for (c = 0; c < NR_CHUNKS; c++)
			files.chunks[f][c].least = files.chunks[f][c].done;
}

void files_after_take(void)
{
	unsigned int f, c;

	for (f = 0; f < NR_FILES; f++)
		for (c = 0; c < NR_CHUNKS; c++)
			files.chunks[f][c].most = files.chunks[f][c].begun;
}

static bool chunk_is_legal(unsigned int f, unsigned int c, const void *have,
			   void *buffer)
{
	const struct chunk *chunk = &files.chunks[f][c];
	uint64_t word;
	unsigned int version;

	memcpy(&word, have, sizeof(word));
	version = word >> 32;
	if (version >= chunk->least && version <= chunk->most) {
		fill_chunk(buffer, f, c, version);
		if (!memcmp(buffer, have, CHUNK_BYTES))
			return true;
	}
	ktap_note("file%u at %u: version %u (0x%016llx), expected %u to %u", f,
		  c * CHUNK_BYTES, version, (unsigned long long)word,
		  chunk->least, chunk->most);
	return false;
}

static void check_file(unsigned int f, struct view *view, struct worker *worker)
{
	uint8_t *content = worker->buffer;
	uint8_t *expected = content + NR_CHUNKS * CHUNK_BYTES;
	char path[64];
	unsigned int c;
	ssize_t ret;
	int fd;

	snprintf(path, sizeof(path), IMAGE_DIR "/file%u", f);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	ret = fd < 0 ? -1 : pread(fd, content, NR_CHUNKS * CHUNK_BYTES, 0);
	close(fd);
	if (ret != NR_CHUNKS * CHUNK_BYTES) {
		if (!atomic_load(&view->nr_corrupted))
			fault_add(FAULT_FILE, "reading %s of %s: %s", path,
				  view->path,
				  ret < 0 ? strerror(errno) : "short");
		return;
	}
	for (c = 0; c < NR_CHUNKS; c++)
		if (!chunk_is_legal(f, c, content + c * CHUNK_BYTES,
				    expected)) {
			fault_add(FAULT_FILE, "%s of %s is wrong", path,
				  view->path);
			return;
		}
}

/* Change something in the mounted image: the origin may not notice. */
static void write_to_image(struct worker *worker)
{
	int fd = open(IMAGE_DIR "/of-the-image",
		      O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	if (fd < 0)
		return;
	if (write(fd, worker->buffer, MIB) < 0 && errno != ENOSPC)
		fault_add(FAULT_FILE, "writing in the mounted image: %s",
			  strerror(errno));
	close(fd);
}

/**
 * files_check() - mount an image and compare its files
 * @view:	the image of the filesystem
 * @worker:	who checks
 * @is_readonly: mount it so; otherwise something is changed in it
 */
void files_check(struct view *view, struct worker *worker, bool is_readonly)
{
	unsigned int f;

	/* What is lost on the way fails in many ways. */
	if (view->shot->plan != PLAN_AMPLE)
		return;
	if (!is_readonly)
		atomic_store(&view->is_wild, true);
	worker_doing(worker, "mounting an image");
	if (mount(view->path, IMAGE_DIR, "ext4", is_readonly ? MS_RDONLY : 0,
		  NULL)) {
		fault_add(FAULT_FILE, "mounting %s: %s", view->path,
			  strerror(errno));
		return;
	}
	worker_doing(worker, "reading the files of an image");
	if (!is_readonly)
		write_to_image(worker);
	for (f = 0; f < NR_FILES; f++)
		check_file(f, view, worker);
	worker_doing(worker, "unmounting an image");
	if (umount(IMAGE_DIR))
		fault_add(FAULT_FILE, "unmounting %s: %s", view->path,
			  strerror(errno));
	torture.nr_mounts++;
}

/**
 * files_judge() - read the files of the origin past the page cache
 * @buffer:	WORKER_BUFFER_BYTES
 *
 * To be called while nobody writes: each has to be what was written last.
 */
void files_judge(void *buffer)
{
	uint8_t *content = buffer;
	uint8_t *expected = content + CHUNK_BYTES;
	unsigned int f, c;

	if (!files.medium)
		return;
	files_before_take();
	files_after_take();
	sync();
	for (f = 0; f < NR_FILES; f++)
		for (c = 0; c < NR_CHUNKS; c++)
			if (pread(files.fds[f][1], content, CHUNK_BYTES,
				  c * CHUNK_BYTES) != CHUNK_BYTES ||
			    !chunk_is_legal(f, c, content, expected)) {
				fault_add(FAULT_ORIGIN, "file%u of the origin is wrong",
					  f);
				return;
			}
}

/* --- start and end --- */

static bool make_file(unsigned int f)
{
	static char content[NR_CHUNKS * CHUNK_BYTES];
	char path[64];
	unsigned int c;

	snprintf(path, sizeof(path), ORIGIN_DIR "/file%u", f);
	files.fds[f][0] = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	files.fds[f][1] = open(path, O_RDWR | O_DIRECT | O_CLOEXEC);
	pthread_mutex_init(&files.locks[f], NULL);
	for (c = 0; c < NR_CHUNKS; c++) {
		fill_chunk(content + c * CHUNK_BYTES, f, c, 1);
		files.chunks[f][c].begun = 1;
		files.chunks[f][c].done = 1;
	}
	return files.fds[f][0] >= 0 && files.fds[f][1] >= 0 &&
	       write(files.fds[f][0], content, sizeof(content)) ==
	       sizeof(content);
}

/* Make the filesystem; false if there is none. */
bool files_start(struct medium *medium)
{
	unsigned int f;

	kernel_module_load("ext4");
	medium->has_files = true;
	if (shell("mkfs.ext4 -q -F %s >/dev/null 2>&1", medium->disk.path)) {
		ktap_note("no filesystem can be made");
		return false;
	}
	mkdir(ORIGIN_DIR, 0755);
	mkdir(IMAGE_DIR, 0755);
	if (mount(medium->disk.path, ORIGIN_DIR, "ext4", 0, NULL)) {
		ktap_note("no filesystem can be mounted");
		return false;
	}
	files.medium = medium;
	for (f = 0; f < NR_FILES; f++)
		if (!make_file(f)) {
			ktap_note("no files can be made");
			return false;
		}
	return true;
}

void files_stop(void)
{
	unsigned int f;

	if (!files.medium)
		return;
	for (f = 0; f < NR_FILES; f++) {
		close(files.fds[f][0]);
		close(files.fds[f][1]);
	}
	umount(ORIGIN_DIR);
	files.medium = NULL;
}

/* Have every block of the filesystem written, so that its disk has its memory. */
void files_fill(void)
{
	char *buffer;
	int fd;

	if (!files.medium)
		return;
	buffer = alloc_aligned(65536);
	memset(buffer, 1, 65536);
	fd = open(ORIGIN_DIR "/filler", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	while (fd >= 0 && write(fd, buffer, 65536) > 0)
		;
	fsync(fd);
	close(fd);
	unlink(ORIGIN_DIR "/filler");
	free(buffer);
}
