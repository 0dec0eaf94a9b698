// SPDX-License-Identifier: GPL-2.0
/*
 * Files in an image
 *
 * Every thread owns some files of a mounted filesystem and knows what is in
 * them, page cache included.  When all threads stand still the knowledge is
 * copied and the snapshot taken: the files of the mounted image have to be the
 * known ones, without a repair, whatever happens to the origin afterwards.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "test_oracle.h"

#define ORIGIN_DIR "/tmp/oracle-origin"
#define IMAGE_DIR "/tmp/oracle-image"
#define NR_FILES 32U
#define CHUNK_BYTES 1024U
#define MAX_CHUNKS 192U

/* A file is a row of chunks; version 0 is a hole. */
struct known_file {
	bool exists;
	unsigned int nr_chunks;
	uint32_t versions[MAX_CHUNKS];
};

static struct {
	struct known_file now[NR_FILES];
	struct known_file taken[NR_FILES];
	struct member member;
	struct crew crew;
	struct snapshot snapshot;
	atomic_uint last_version;
} files;

static void file_path(char *path, size_t size, const char *dir, unsigned int i)
{
	snprintf(path, size, "%s/file%u", dir, i);
}

static void fill_chunk(void *chunk, uint32_t version, unsigned int index)
{
	uint64_t *words = chunk;
	unsigned int i;

	for (i = 0; i < CHUNK_BYTES / sizeof(*words); i++)
		words[i] = version ? (uint64_t)version << 32 | index << 8 | i :
				     0;
}

/* --- what threads do to their files --- */

static bool write_chunks(int fd, struct known_file *file, unsigned int first,
			 unsigned int nr, char *buffer)
{
	const uint32_t version = atomic_fetch_add(&files.last_version, 1) + 1;
	unsigned int i;

	for (i = 0; i < nr; i++) {
		fill_chunk(buffer + i * CHUNK_BYTES, version, first + i);
		file->versions[first + i] = version;
	}
	if (file->nr_chunks < first + nr)
		file->nr_chunks = first + nr;
	return pwrite(fd, buffer, nr * CHUNK_BYTES, first * CHUNK_BYTES) ==
	       (ssize_t)(nr * CHUNK_BYTES);
}

static bool truncate_chunks(int fd, struct known_file *file, unsigned int nr)
{
	unsigned int i;

	for (i = nr; i < MAX_CHUNKS; i++)
		file->versions[i] = 0;
	file->nr_chunks = nr;
	return !ftruncate(fd, nr * CHUNK_BYTES);
}

static bool punch_chunks(int fd, struct known_file *file, unsigned int first,
			 unsigned int nr)
{
	unsigned int i;

	for (i = first; i < first + nr && i < file->nr_chunks; i++)
		file->versions[i] = 0;
	return !fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
			  first * CHUNK_BYTES, nr * CHUNK_BYTES);
}

static bool change_content(struct crew_member *member, struct known_file *file,
			   const char *path)
{
	struct random *random = &member->random;
	const unsigned int first = random_below(random, MAX_CHUNKS - 1);
	const unsigned int nr = 1 + random_below(random, MAX_CHUNKS - first - 1);
	int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0644);
	bool ok;

	if (fd < 0)
		return false;
	file->exists = true;
	switch (random_below(random, 8)) {
	case 0:
		ok = truncate_chunks(fd, file, first);
		break;
	case 1:
		ok = punch_chunks(fd, file, first, nr);
		break;
	default:
		ok = write_chunks(fd, file, first, nr, member->buffer);
	}
	if (ok && !random_below(random, 4))
		ok = !fsync(fd);
	close(fd);
	return ok;
}

static bool unlink_file(struct known_file *file, const char *path)
{
	memset(file, 0, sizeof(*file));
	return !unlink(path) || errno == ENOENT;
}

static bool trim(void)
{
	struct fstrim_range range = { .len = UINT64_MAX };
	int fd = open(ORIGIN_DIR, O_RDONLY | O_CLOEXEC);
	bool ok = fd >= 0 && (!ioctl(fd, FITRIM, &range) || errno == EOPNOTSUPP);

	close(fd);
	return ok;
}

static const char *files_work(struct crew_member *member, void *data)
{
	struct random *random = &member->random;
	const unsigned int nr = member->crew->nr_members;
	const unsigned int i = member->index +
		random_below(random, NR_FILES / nr) * nr;
	const unsigned int other = member->index +
		random_below(random, NR_FILES / nr) * nr;
	char path[64], new_path[64];

	(void)data;
	file_path(path, sizeof(path), ORIGIN_DIR, i);
	file_path(new_path, sizeof(new_path), ORIGIN_DIR, other);
	switch (random_below(random, 20)) {
	case 0:
		if (unlink_file(&files.now[i], path))
			return NULL;
		break;
	case 1:
		if (!files.now[i].exists || i == other)
			return NULL;
		files.now[other] = files.now[i];
		memset(&files.now[i], 0, sizeof(files.now[i]));
		if (!rename(path, new_path))
			return NULL;
		break;
	case 2:
		if (member->index || trim())
			return NULL;
		break;
	default:
		if (change_content(member, &files.now[i], path))
			return NULL;
	}
	ktap_note("working on %s: %s", path, strerror(errno));
	return "a file of the origin could not be changed";
}

/* --- looking at the image --- */

static void check_chunks(unsigned int i, const struct known_file *file,
			 const char *content)
{
	char chunk[CHUNK_BYTES];
	unsigned int c;

	for (c = 0; c < file->nr_chunks; c++) {
		fill_chunk(chunk, file->versions[c], c);
		if (!memcmp(chunk, content + c * CHUNK_BYTES, CHUNK_BYTES))
			continue;
		oracle.nr_different++;
		FAIL("round %u: file%u differs at %u: word 0x%016llx, version must be %u",
		     oracle.nr_done, i, c * CHUNK_BYTES,
		     *(unsigned long long *)(content + c * CHUNK_BYTES),
		     file->versions[c]);
		return;
	}
}

static void check_file(unsigned int i)
{
	const struct known_file *file = &files.taken[i];
	static char content[(MAX_CHUNKS + 1) * CHUNK_BYTES];
	char path[64];
	ssize_t ret;
	int fd;

	file_path(path, sizeof(path), IMAGE_DIR, i);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	EXPECT_EQ(fd >= 0, file->exists);
	if (fd < 0)
		return;
	ret = pread(fd, content, sizeof(content), 0);
	EXPECT_EQ(ret, file->nr_chunks * CHUNK_BYTES);
	if (ret == (ssize_t)(file->nr_chunks * CHUNK_BYTES))
		check_chunks(i, file, content);
	close(fd);
}

static void check_image_files(const char *image)
{
	unsigned int i;

	ASSERT_OK(mount(image, IMAGE_DIR, "ext4", MS_RDONLY, NULL));
	for (i = 0; i < NR_FILES; i++)
		check_file(i);
	EXPECT_OK(umount(IMAGE_DIR));
}

static void files_round(void)
{
	struct random *random = &oracle.random;
	const unsigned int nr_changes = 1 + random_below(random, 12);
	struct member *member = &files.member;
	const char *image;

	crew_grant(&files.crew, nr_changes);
	crew_wait(&files.crew);
	memcpy(files.taken, files.now, sizeof(files.now));
	snapshot_create(&files.snapshot, member->disk);
	oracle_append(&files.snapshot, NULL, 0, 0);
	snapshot_take(&files.snapshot);
	crew_grant(&files.crew, nr_changes);
	image = image_of(&files.snapshot, member->disk);
	ASSERT(read_direct(image, member->data, member->disk->nr_bytes, 0));
	/* Nothing may be left to repair: the filesystem was frozen. */
	if (!access("/sbin/e2fsck", X_OK))
		EXPECT_EQ(shell("/sbin/e2fsck -fn %s >/dev/null 2>&1", image), 0);
	check_image_files(image);
	crew_wait(&files.crew);
	sync();
	member_compare(member, image, true);
	check_image_files(image);
	member_check_map(member);
	crew_grant(&files.crew, 1);
	ASSERT_OK(control_snapshot_destroy(ctl, &files.snapshot.id));
	crew_wait(&files.crew);
}

static bool files_start(void)
{
	const struct disk *disk = &oracle.disks[0];

	if (!kernel_module_load("ext4") && access("/sys/fs/ext4", F_OK)) {
		ktap_skip("this kernel has no ext4");
		return false;
	}
	if (shell("mkfs.ext4 -q -F %s >/dev/null 2>&1", disk->path)) {
		ktap_skip("there is no mkfs.ext4");
		return false;
	}
	mkdir(ORIGIN_DIR, 0755);
	mkdir(IMAGE_DIR, 0755);
	ASSERT_OK(mount(disk->path, ORIGIN_DIR, "ext4", 0, NULL));
	member_init(&files.member, disk, 0, 0);
	crew_start(&files.crew, oracle.nr_threads, ktap_options.seed, files_work,
		   NULL);
	return true;
}

void files_tear_down(void)
{
	crew_halt(&files.crew);
	crew_stop(&files.crew);
	umount(IMAGE_DIR);
	umount(ORIGIN_DIR);
	member_exit(&files.member);
	memset(&files, 0, sizeof(files));
	ctl_tear_down();
}

void test_files_in_image_are_those_of_the_take(void)
{
	if (!files_start())
		return;
	while (oracle_goes_on() && !crew_error(&files.crew))
		files_round();
	if (crew_error(&files.crew))
		FAIL("%s", crew_error(&files.crew));
	EXPECT_EQ(oracle.nr_different, 0);
	EXPECT_EQ(oracle.nr_unmarked, 0);
}
