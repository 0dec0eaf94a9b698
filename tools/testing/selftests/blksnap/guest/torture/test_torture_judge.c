// SPDX-License-Identifier: GPL-2.0
/*
 * What may be on a sector
 *
 * A word is 8 bytes: the number of the operation above, and below it the place,
 * counted in words from the start of the medium, with the medium's index in the
 * top bits.  So it can be said of each word by itself who wrote it and whether
 * it belongs there.  A word of zeros does not tell who made it.
 *
 * Let I be the instant of a take: no earlier than the tick before the call, and
 * no earlier than the start of any operation that is seen in any of the images.
 * A word of operation O is legal if O began before the take returned and no
 * other operation on the sector both began after the end of O and ended before
 * I.  That holds for all members together, so it is the test for one instant as
 * well.
 *
 * A write through a page cache may be seen although it began after the instant: what
 * is cached may be changed while it is being written to the disk.  So a bio that was
 * on its way at the instant may carry what is written to its page later.  That bio was
 * submitted for an earlier write to the page, which does not end before the bio does.
 * So what such a write says of the instant is when the first of the writes to the page
 * began that had not ended when it began itself.
 *
 * One more thing is legal.  An operation that makes zeros may throw pages out of
 * the page cache of its node before it begins.  A write through that cache which
 * had not ended by then may be lost with them, however well its sync ends: what
 * was there before stays until the zeros come.
 */
#include <string.h>

#include "test_torture.h"

#define SECTOR_WORDS (SECTOR_SIZE / sizeof(uint64_t))
#define PLACE_BITS 28	/* media of up to 2 GiB */
#define IMAGE_OP 0x80000000U	/* written to an image, never to an origin */
#define MAX_REPORTS 3		/* sectors told in full, per judgement */
#define MAX_HISTORY 12		/* operations told of one sector */
#define MAX_DROPS 64		/* more than there are writers */

/* Who had thrown out pages, but had perhaps not made zeros yet at the instant. */
struct drops {
	const struct op *ops[MAX_DROPS];
	unsigned int nr;
};

static uint32_t place_of(const struct medium *medium, uint64_t sector)
{
	return (medium->index + 1) << PLACE_BITS | sector * SECTOR_WORDS;
}

/**
 * stamp_words() - fill a buffer with what one operation writes
 * @medium:	where to
 * @buffer:	of @nr_sectors
 * @sector:	first, of the medium
 * @nr_sectors:	how many
 * @op:		number of the operation
 */
void stamp_words(const struct medium *medium, void *buffer, uint64_t sector,
		 uint64_t nr_sectors, uint64_t op)
{
	uint64_t word = op << 32 | place_of(medium, sector);
	uint64_t *words = buffer;
	uint64_t i;

	for (i = 0; i < nr_sectors * SECTOR_WORDS; i++)
		words[i] = word++;
}

/* Number for a write to an image. */
uint64_t image_op_next(void)
{
	static atomic_uint last;

	return IMAGE_OP | (atomic_fetch_add(&last, 1) & ~IMAGE_OP);
}

static uint64_t get_word(const void *sector, unsigned int i)
{
	uint64_t word;

	memcpy(&word, (const uint8_t *)sector + i * sizeof(word), sizeof(word));
	return word;
}

static const struct op *find_op(const struct medium *medium, uint32_t number)
{
	const uint64_t i = number - medium->first_op;

	if (number < medium->first_op || i >= MAX_OPS ||
	    i >= atomic_load(&medium->nr_ops))
		return NULL;
	return &medium->ops[i];
}

static void report_op(const struct op *op)
{
	ktap_note("    %s through way %u, sectors %llu + %u, ticks %llu to %lld, %s",
		  op->how, op->way, (unsigned long long)op->sector,
		  op->nr_sectors, (unsigned long long)op->start,
		  (long long)op->end,
		  op->is_certain ? "certain" : "perhaps");
}

/* The operations on a range that had not ended by @since. */
void report_ops(const struct medium *medium, uint64_t sector, uint64_t nr_sectors,
		uint64_t since)
{
	unsigned int i, nr = atomic_load(&medium->nr_ops), nr_told = 0;
	const struct op *op;

	for (i = 0; i < nr && i < MAX_OPS && nr_told < MAX_HISTORY; i++) {
		op = &medium->ops[i];
		if (op->sector >= sector + nr_sectors || op->sector + op->nr_sectors <= sector ||
		    atomic_load(&op->end) < since)
			continue;
		report_op(op);
		nr_told++;
	}
}

void report_sector(const struct medium *medium, const char *label,
		   const void *data)
{
	const uint64_t word = get_word(data, 0);
	const uint32_t number = word >> 32;
	const uint32_t place = word;
	const struct op *op = find_op(medium, number);
	unsigned int i;

	ktap_note("  %s: 0x%016llx 0x%016llx ... 0x%016llx", label,
		  (unsigned long long)word,
		  (unsigned long long)get_word(data, 1),
		  (unsigned long long)get_word(data, SECTOR_WORDS - 1));
	if (!word || medium->has_files)
		return;
	ktap_note("    %soperation %u, for medium %u sector %u + %u words",
		  number & IMAGE_OP ? "image " : "", number & ~IMAGE_OP,
		  (place >> PLACE_BITS) - 1,
		  (unsigned int)((place & ((1U << PLACE_BITS) - 1)) /
				 SECTOR_WORDS),
		  (unsigned int)(place % SECTOR_WORDS));
	if (op)
		report_op(op);
	for (i = 1; i < SECTOR_WORDS; i++)
		if (get_word(data, i) >> 32 != number) {
			ktap_note("    from word %u on by another: 0x%016llx", i,
				  (unsigned long long)get_word(data, i));
			break;
		}
}

/* --- what the log says of each sector --- */

/* The sectors [*first, *end) of an operation that are looked at. */
static void clip_op(const struct evidence *evidence, const struct op *op,
		    uint64_t *first, uint64_t *end)
{
	*first = op->sector > evidence->start ? op->sector : evidence->start;
	*end = op->sector + op->nr_sectors;
	if (*end > evidence->start + evidence->nr_sectors)
		*end = evidence->start + evidence->nr_sectors;
}

/*
 * One that ended before made its zeros; or, if it could not, it found a dirty
 * page and left the cache as it was.
 */
static void collect_drop(const struct evidence *evidence, const struct op *op,
			 uint64_t instant, struct drops *drops)
{
	if (atomic_load(&op->start) > evidence->take_end || !op->is_cached ||
	    !op->makes_zeros || atomic_load(&op->end) < instant)
		return;
	if (drops->nr < MAX_DROPS)
		drops->ops[drops->nr++] = op;
}

static bool may_be_dropped(const struct drops *drops, const struct op *op,
			   uint64_t sector)
{
	unsigned int i;

	if (!op->is_cached || op->makes_zeros)
		return false;
	for (i = 0; i < drops->nr; i++) {
		const struct op *drop = drops->ops[i];

		if (drop->way == op->way && sector >= drop->sector &&
		    sector < drop->sector + drop->nr_sectors &&
		    atomic_load(&op->end) > atomic_load(&drop->start))
			return true;
	}
	return false;
}

static void apply_op(const struct evidence *evidence, const struct op *op,
		     uint64_t instant, const struct drops *drops)
{
	const struct medium *medium = evidence->medium;
	const uint64_t start = atomic_load(&op->start);
	const uint64_t end = start == NOT_YET ? NOT_YET : atomic_load(&op->end);
	uint64_t s, last;

	/* An entry that is not filled in yet belongs to what comes later. */
	if (start > evidence->take_end)
		return;
	clip_op(evidence, op, &s, &last);
	for (; s < last; s++) {
		if (op->makes_zeros && end > medium->zero_end[s])
			medium->zero_end[s] = end;
		if (op->is_certain && end < instant &&
		    start > medium->must_start[s] &&
		    !may_be_dropped(drops, op, s))
			medium->must_start[s] = start;
	}
}

static void apply_log(const struct evidence *evidence, uint64_t instant)
{
	const struct medium *medium = evidence->medium;
	const size_t nr_bytes = evidence->nr_sectors * sizeof(uint64_t);
	unsigned int i, nr = atomic_load(&medium->nr_ops);
	struct drops drops = { .nr = 0 };

	memset(medium->must_start + evidence->start, 0, nr_bytes);
	memset(medium->zero_end + evidence->start, 0, nr_bytes);
	for (i = 0; i < nr && i < MAX_OPS; i++)
		collect_drop(evidence, &medium->ops[i], instant, &drops);
	for (i = 0; i < nr && i < MAX_OPS; i++)
		apply_op(evidence, &medium->ops[i], instant, &drops);
}

/* Everything that was done to a sector, the last of it. */
static void report_history(const struct medium *medium, uint64_t sector)
{
	unsigned int i = atomic_load(&medium->nr_ops), nr = 0;

	if (i > MAX_OPS)
		i = MAX_OPS;
	ktap_note("  the latest operations on the sector:");
	while (i-- && nr < MAX_HISTORY) {
		const struct op *op = &medium->ops[i];

		if (atomic_load(&op->start) == NOT_YET || sector < op->sector ||
		    sector >= op->sector + op->nr_sectors)
			continue;
		nr++;
		report_op(op);
	}
}

/* --- one sector --- */

/* Why a word is illegal, or NULL. */
static const char *judge_word(const struct evidence *evidence, uint64_t sector,
			      unsigned int i, uint64_t word)
{
	const struct medium *medium = evidence->medium;
	const uint64_t must = medium->must_start[sector];
	const uint64_t old = get_word(medium->base + sector * SECTOR_SIZE, i);
	const uint32_t number = word >> 32;
	const struct op *op;

	if (!word) {
		if (medium->zero_end[sector] &&
		    medium->zero_end[sector] >= must)
			return NULL;
		return !old && !must ? NULL : "zeros that nobody made";
	}
	if (number & IMAGE_OP)
		return "it was written to an image";
	if ((uint32_t)word != place_of(medium, sector) + i)
		return "it belongs elsewhere";
	if (number < medium->first_op) {
		if (word != old)
			return "it was gone before";
		return must ? "it is too old" : NULL;
	}
	op = find_op(medium, number);
	if (!op || atomic_load(&op->start) == NOT_YET)
		return "nobody has written it";
	if (sector < op->sector || sector >= op->sector + op->nr_sectors ||
	    op->makes_zeros)
		return "the operation was not one of this sector";
	if (atomic_load(&op->start) > evidence->take_end)
		return "it was written after the take";
	return atomic_load(&op->end) < must ? "it is too old" : NULL;
}

static bool is_uniform(const uint8_t *data, uint64_t word)
{
	unsigned int i;

	for (i = 1; i < SECTOR_WORDS; i++)
		if (get_word(data, i) != (word ? word + i : 0))
			return false;
	return true;
}

static const char *judge_sector(const struct evidence *evidence,
				uint64_t sector, const uint8_t *data)
{
	const uint64_t word = get_word(data, 0);
	const char *reason;
	unsigned int i;

	reason = judge_word(evidence, sector, 0, word);
	/* Old words and zeros may be mixed with others, one by one. */
	if (is_uniform(data, word) && word >> 32 >= evidence->medium->first_op)
		return reason;
	for (i = 1; !reason && i < SECTOR_WORDS; i++)
		reason = judge_word(evidence, sector, i, get_word(data, i));
	return reason;
}

/* What was seen that began at the instant: if it must not be there, all else is right. */
static void report_instant(uint64_t instant)
{
	unsigned int m, i;

	for (m = 0; m < torture.nr_media; m++) {
		const struct medium *medium = &torture.media[m];
		const unsigned int nr = atomic_load(&medium->nr_ops);

		for (i = 0; i < nr && i < MAX_OPS; i++) {
			if (atomic_load(&medium->ops[i].start) != instant)
				continue;
			ktap_note("  no earlier than the instant, for this was seen of %s:",
				  medium->disk.path);
			report_op(&medium->ops[i]);
		}
	}
}

static void report(const struct evidence *evidence, uint64_t sector,
		   const uint8_t *data, const char *reason, uint64_t instant)
{
	const struct medium *medium = evidence->medium;

	ktap_note("%s %s sector %llu (%s sector %llu): %s", evidence->what,
		  evidence->path,
		  (unsigned long long)(sector - evidence->start),
		  medium->disk.path, (unsigned long long)sector, reason);
	report_sector(medium, "seen", data);
	report_sector(medium, "base", medium->base + sector * SECTOR_SIZE);
	report_history(medium, sector);
	ktap_note("  expected: nothing that ended before tick %llu, or zeros of %llu or later",
		  (unsigned long long)medium->must_start[sector],
		  (unsigned long long)medium->must_start[sector]);
	ktap_note("  base read at %llu, zeros until %lld",
		  (unsigned long long)medium->base_tick,
		  (long long)medium->zero_end[sector]);
	ktap_note("  take from %llu to %lld, instant %llu, seed %llu, cycle %llu",
		  (unsigned long long)evidence->take_start,
		  (long long)evidence->take_end, (unsigned long long)instant,
		  (unsigned long long)ktap_options.seed,
		  (unsigned long long)torture.nr_cycles);
	report_instant(instant);
}

/* --- all of it --- */

/* May the page cache have sent what @op wrote to a sector with a bio of @earlier? */
static bool may_carry(const struct op *earlier, const struct op *op, uint64_t sector)
{
	return earlier->is_cached && !earlier->makes_zeros && earlier->way == op->way &&
	       sector >= earlier->sector && sector < earlier->sector + earlier->nr_sectors &&
	       atomic_load(&earlier->end) > atomic_load(&op->start);
}

/* The earliest that what is seen of an operation can have been submitted. */
static uint64_t earliest_bio(const struct medium *medium, const struct op *op,
			     uint64_t sector)
{
	const unsigned int nr = atomic_load(&medium->nr_ops);
	uint64_t start, earliest = atomic_load(&op->start);
	unsigned int i;

	if (!op->is_cached)
		return earliest;
	for (i = 0; i < nr && i < MAX_OPS; i++) {
		start = atomic_load(&medium->ops[i].start);
		if (start < earliest && may_carry(&medium->ops[i], op, sector))
			earliest = start;
	}
	return earliest;
}

/**
 * evidence_instant() - the earliest that the instant can have been
 * @evidence:	one image
 *
 * Return: the latest start of what is in the image, or of what may have brought it
 *	   there; @evidence->take_start at least.
 */
uint64_t evidence_instant(const struct evidence *evidence)
{
	uint64_t s, start, instant = evidence->take_start;
	const uint8_t *data = evidence->data;
	const struct op *op;
	uint64_t word;

	for (s = 0; s < evidence->nr_sectors; s++, data += SECTOR_SIZE) {
		if (evidence->seen && !evidence->seen[s])
			continue;
		word = get_word(data, 0);
		op = find_op(evidence->medium, word >> 32);
		if (!word || !op)
			continue;
		start = atomic_load(&op->start);
		if (start <= instant || start >= evidence->take_end)
			continue;
		start = earliest_bio(evidence->medium, op, evidence->start + s);
		if (start > instant)
			instant = start;
	}
	return instant;
}

/**
 * evidence_judge() - find and report what is illegal
 * @evidence:	what was read; its medium belongs to the caller
 * @instant:	the latest of what evidence_instant() says of the images of the
 *		same take
 *
 * Return: true if everything is legal.
 */
bool evidence_judge(const struct evidence *evidence, uint64_t instant)
{
	const uint8_t *data = evidence->data;
	unsigned long long nr_wrong = 0;
	const char *reason;
	uint64_t s;

	apply_log(evidence, instant);
	for (s = 0; s < evidence->nr_sectors; s++, data += SECTOR_SIZE) {
		if (evidence->seen && !evidence->seen[s])
			continue;
		torture.nr_judged_bytes += SECTOR_SIZE;
		reason = judge_sector(evidence, evidence->start + s, data);
		if (reason && nr_wrong++ < MAX_REPORTS)
			report(evidence, evidence->start + s, data, reason,
			       instant);
	}
	if (nr_wrong)
		ktap_note("%s %s: %llu sectors are wrong", evidence->what,
			  evidence->path, nr_wrong);
	return !nr_wrong;
}

/* Can somebody have written that at all?  For who reads without holding still. */
bool sector_is_plausible(const struct medium *medium, uint64_t sector,
			 const void *data)
{
	unsigned int i;

	for (i = 0; i < SECTOR_WORDS; i++) {
		const uint64_t word = get_word(data, i);

		if (!word)
			continue;
		if (word >> 32 & IMAGE_OP ||
		    (uint32_t)word != place_of(medium, sector) + i)
			return false;
	}
	return true;
}
