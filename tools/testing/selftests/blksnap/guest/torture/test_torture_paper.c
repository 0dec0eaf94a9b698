// SPDX-License-Identifier: GPL-2.0
/*
 * Whether the judge of the torture is right, by logs and images made up
 *
 * What is told is always the same: an image does not show a direct write that had
 * ended when another one began, which is seen.  Whether that is wrong depends on how
 * the other one may have come into the image.
 */
#include <stdlib.h>
#include <string.h>

#include "test_torture.h"

#define NR_SECTORS (4 * BLOCK_SECTORS)
#define NR_OPS 8U
#define TAKE_START 100U
#define TAKE_END 200U

static struct medium paper;
static uint8_t *image;

static const struct op missing_write = {
	.start = 110, .end = 120, .sector = 0, .nr_sectors = BLOCK_SECTORS,
	.is_certain = true, .how = "write",
};

void judge_set_up(void)
{
	memset(&paper, 0, sizeof(paper));
	paper.nr_sectors = NR_SECTORS;
	paper.ops = calloc(NR_OPS, sizeof(*paper.ops));
	paper.must_start = calloc(NR_SECTORS, sizeof(uint64_t));
	paper.zero_end = calloc(NR_SECTORS, sizeof(uint64_t));
	paper.base = alloc_aligned(NR_SECTORS * SECTOR_SIZE);
	image = alloc_aligned(NR_SECTORS * SECTOR_SIZE);
	stamp_words(&paper, paper.base, 0, NR_SECTORS, 1);
	memcpy(image, paper.base, NR_SECTORS * SECTOR_SIZE);
	paper.first_op = 2;
}

void judge_tear_down(void)
{
	free(paper.ops);
	free(paper.must_start);
	free(paper.zero_end);
	free(paper.base);
	free(image);
}

/* Enters an operation into the log; returns its number. */
static uint64_t enter(const struct op *op)
{
	const unsigned int i = atomic_fetch_add(&paper.nr_ops, 1);

	memcpy(&paper.ops[i], op, sizeof(*op));
	return paper.first_op + i;
}

/* A cached write to the second block, which is not seen. */
static void enter_cached(uint64_t start, uint64_t end)
{
	const struct op op = {
		.start = start, .end = end, .sector = BLOCK_SECTORS,
		.nr_sectors = BLOCK_SECTORS, .is_certain = true,
		.is_cached = true, .how = "buffered write",
	};

	enter(&op);
}

/* The write to the second block that is seen, after the one that is missing. */
static void show_later_write(bool is_cached)
{
	const struct op op = {
		.start = 130, .end = 160, .sector = BLOCK_SECTORS,
		.nr_sectors = BLOCK_SECTORS, .is_certain = true,
		.is_cached = is_cached,
		.how = is_cached ? "buffered write" : "write",
	};
	const uint64_t number = enter(&op);

	enter(&missing_write);
	stamp_words(&paper, image + op.sector * SECTOR_SIZE, op.sector, op.nr_sectors,
		    number);
}

static bool is_legal(uint64_t *instant)
{
	const struct evidence evidence = {
		.medium = &paper, .what = "made up:", .path = "image",
		.nr_sectors = NR_SECTORS, .data = image,
		.take_start = TAKE_START, .take_end = TAKE_END,
	};

	*instant = evidence_instant(&evidence);
	return evidence_judge(&evidence, *instant);
}

static void expect_missing(void)
{
	uint64_t instant;

	EXPECT(!is_legal(&instant));
	EXPECT_EQ(instant, 130);
}

static void test_direct_write_tells_the_instant(void)
{
	enter_cached(90, 150);
	show_later_write(false);
	expect_missing();
}

static void test_cached_write_alone_tells_the_instant(void)
{
	show_later_write(true);
	expect_missing();
}

/* Its page may have been on its way to the disk when it was changed. */
static void test_cached_write_to_a_busy_page_tells_less(void)
{
	uint64_t instant;

	enter_cached(90, 150);
	show_later_write(true);
	EXPECT(is_legal(&instant));
	EXPECT_EQ(instant, TAKE_START);
}

static void test_page_that_became_busy_later_tells_when(void)
{
	uint64_t instant;

	enter_cached(115, 150);
	show_later_write(true);
	EXPECT(is_legal(&instant));
	EXPECT_EQ(instant, 115);
}

static void test_page_that_became_busy_too_late_is_no_excuse(void)
{
	enter_cached(125, 150);
	show_later_write(true);
	EXPECT(!is_legal(&(uint64_t){ 0 }));
}

static void test_page_that_is_not_busy_any_more_is_no_excuse(void)
{
	enter_cached(90, 129);
	show_later_write(true);
	expect_missing();
}

/* Not this page, not this cache, not through a cache, or not with data. */
static void test_busy_page_of_another_cache_is_no_excuse(void)
{
	const struct op excuse = {
		.start = 90, .end = 150, .sector = BLOCK_SECTORS,
		.nr_sectors = BLOCK_SECTORS, .is_certain = true, .is_cached = true,
		.how = "other write",
	};
	struct op op = excuse;

	op.sector = 2 * BLOCK_SECTORS;
	enter(&op);
	op = excuse;
	op.way = 1;
	enter(&op);
	op = excuse;
	op.is_cached = false;
	enter(&op);
	op = excuse;
	op.makes_zeros = true;
	enter(&op);
	show_later_write(true);
	expect_missing();
}

const struct ktap_test judge_tests[] = {
	KTAP_TEST(test_direct_write_tells_the_instant),
	KTAP_TEST(test_cached_write_alone_tells_the_instant),
	KTAP_TEST(test_cached_write_to_a_busy_page_tells_less),
	KTAP_TEST(test_page_that_became_busy_later_tells_when),
	KTAP_TEST(test_page_that_became_busy_too_late_is_no_excuse),
	KTAP_TEST(test_page_that_is_not_busy_any_more_is_no_excuse),
	KTAP_TEST(test_busy_page_of_another_cache_is_no_excuse),
	KTAP_END
};
