// SPDX-License-Identifier: GPL-2.0
/*
 * Space for the copies of a snapshot
 *
 * Each append makes a batch of ranges, which stays as it is until the storage is
 * destroyed.  Two indexes lead to the ranges: a tree by their place on the disks, which
 * finds overlaps, and an array by position, which grows at its end.  Only the array is
 * needed to store and to read copies, so the lock covers only the array.
 *
 * The array grows outside the lock: no reader looks at entries from nr_ranges on, and a
 * larger array replaces the old one at the moment when the new entries become visible.
 *
 * Space is taken in order of the positions: everything below nr_used is taken.
 *
 * A client needs a while to receive the event, find space and append it.  So the faster
 * space is being taken, the earlier it is called low.
 */
#include "diff_storage.h"

/* Size of the first array by position; it doubles when it is full. */
#define MIN_ARRAY_SIZE 16U

/* The fill rate is measured over this time. */
#define FILL_PERIOD (HZ / 4)

/*
 * A range as it was appended.  The part that is handed out begins where the range
 * begins; its length is a multiple of the alignment, possibly 0.
 */
struct storage_range {
	struct rb_node rb;
	struct diff_range place;
	u64 position;
};

struct storage_batch {
	struct list_head link;
	unsigned int nr_ranges;
	struct storage_range ranges[];
};

struct diff_storage {
	sector_t low_limit;
	unsigned int ahead_ms;
	diff_storage_low_fn low_fn;
	void *data;

	/* Control path, serialised by the caller. */
	struct list_head batches;
	struct rb_root places;
	unsigned int array_size;

	spinlock_t lock;		/* everything below */
	struct storage_range **by_position;
	unsigned int nr_ranges;		/* entries of by_position */
	u64 capacity;			/* the position where it ends */
	u64 nr_used;			/* the position of the next region */
	bool is_low;			/* low_fn was called, not re-armed yet */

	unsigned long period_start;	/* in jiffies */
	u64 period_first;		/* nr_used at that time */
	u64 fill_rate;			/* sectors per jiffy, in the period before */
	unsigned long before_start;	/* of the period before */
	u64 before_first;		/* nr_used at that time */
};

/**
 * diff_storage_create() - make a storage without space
 * @low_limit:	free sectors at which @low_fn is called at the latest
 * @ahead_ms:	@low_fn is called earlier if free space would last less than this many ms
 *		at the current fill rate; 0 if that does not matter
 * @low_fn:	called with the sectors to append, and once only until
 *		diff_storage_append() has lifted free space above @low_limit
 * @data:	for @low_fn
 *
 * Return: the storage or ERR_PTR(-ENOMEM).
 */
struct diff_storage *diff_storage_create(sector_t low_limit, unsigned int ahead_ms,
					 diff_storage_low_fn low_fn, void *data)
{
	struct diff_storage *storage = kzalloc_obj(*storage, GFP_KERNEL);

	if (!storage)
		return ERR_PTR(-ENOMEM);
	storage->low_limit = low_limit;
	storage->ahead_ms = ahead_ms;
	storage->low_fn = low_fn;
	storage->data = data;
	INIT_LIST_HEAD(&storage->batches);
	storage->places = RB_ROOT;
	spin_lock_init(&storage->lock);
	storage->period_start = jiffies;
	storage->before_start = jiffies;
	return storage;
}

void diff_storage_destroy(struct diff_storage *storage)
{
	struct storage_batch *batch, *next;

	list_for_each_entry_safe(batch, next, &storage->batches, link)
		kvfree(batch);
	kvfree(storage->by_position);
	kfree(storage);
}

static sector_t range_usable_sectors(const struct storage_range *range)
{
	return range->place.is_unused ? 0 :
	       round_down(range->place.nr_sectors, DIFF_STORAGE_ALIGN_SECTORS);
}

/* First sector on the disk, also of a range in a partition. */
static u64 place_start(const struct diff_range *place)
{
	return place->bdev->bd_start_sect + place->sector;
}

static bool place_is_valid(const struct diff_range *place)
{
	u64 end;

	return place->nr_sectors &&
	       !check_add_overflow(place->sector, place->nr_sectors, &end) &&
	       !check_add_overflow(end, place->bdev->bd_start_sect, &end);
}

/* Negative or positive if @a is wholly before or after @b, 0 if they overlap. */
static int place_compare(const struct diff_range *a, const struct diff_range *b)
{
	if (a->bdev->bd_disk != b->bdev->bd_disk)
		return a->bdev->bd_disk < b->bdev->bd_disk ? -1 : 1;
	if (place_start(a) + a->nr_sectors <= place_start(b))
		return -1;
	if (place_start(b) + b->nr_sectors <= place_start(a))
		return 1;
	return 0;
}

/* Enters @range into the tree; false if it overlaps one in the tree. */
static bool diff_storage_link_place(struct diff_storage *storage, struct storage_range *range)
{
	struct rb_node **link = &storage->places.rb_node;
	struct rb_node *parent = NULL;

	while (*link) {
		struct storage_range *other = rb_entry(*link, struct storage_range, rb);
		int order = place_compare(&range->place, &other->place);

		if (!order)
			return false;
		parent = *link;
		link = order < 0 ? &parent->rb_left : &parent->rb_right;
	}
	rb_link_node(&range->rb, parent, link);
	rb_insert_color(&range->rb, &storage->places);
	return true;
}

static void diff_storage_unlink_places(struct diff_storage *storage,
				       struct storage_batch *batch, unsigned int nr_ranges)
{
	unsigned int i;

	for (i = 0; i < nr_ranges; i++)
		rb_erase(&batch->ranges[i].rb, &storage->places);
}

/* All of the batch, or nothing and -EINVAL. */
static int diff_storage_link_places(struct diff_storage *storage, struct storage_batch *batch)
{
	unsigned int i;

	for (i = 0; i < batch->nr_ranges; i++) {
		cond_resched();
		if (!place_is_valid(&batch->ranges[i].place) ||
		    !diff_storage_link_place(storage, &batch->ranges[i])) {
			diff_storage_unlink_places(storage, batch, i);
			return -EINVAL;
		}
	}
	return 0;
}

/*
 * User space chooses the number of ranges: too many are an error without a splat, and
 * the memory is charged to the caller.
 */
static struct storage_batch *storage_batch_alloc(const struct diff_range *ranges,
						 unsigned int nr_ranges)
{
	struct storage_batch *batch;
	unsigned int i;

	batch = kvzalloc(struct_size(batch, ranges, nr_ranges), GFP_KERNEL_ACCOUNT | __GFP_NOWARN);
	if (!batch)
		return NULL;
	batch->nr_ranges = nr_ranges;
	for (i = 0; i < nr_ranges; i++)
		batch->ranges[i].place = ranges[i];
	return batch;
}

/*
 * An array by position with room for @batch: the present one, or a larger copy of it,
 * or NULL if there is no memory.
 */
static struct storage_range **diff_storage_grow_array(struct diff_storage *storage,
						      const struct storage_batch *batch,
						      unsigned int *array_size)
{
	struct storage_range **array;
	unsigned int needed;

	if (check_add_overflow(storage->nr_ranges, batch->nr_ranges, &needed))
		return NULL;
	*array_size = storage->array_size;
	if (needed <= *array_size)
		return storage->by_position;

	if (check_add_overflow(*array_size, *array_size, array_size))
		return NULL;
	*array_size = max3(*array_size, needed, MIN_ARRAY_SIZE);
	array = kvcalloc(*array_size, sizeof(*array), GFP_KERNEL_ACCOUNT | __GFP_NOWARN);
	if (array && storage->nr_ranges)
		memcpy(array, storage->by_position, storage->nr_ranges * sizeof(*array));
	return array;
}

/*
 * Gives the ranges of @batch their positions and enters them after the storage's last
 * one.  Returns the capacity with them.
 */
static u64 diff_storage_fill_array(struct diff_storage *storage, struct storage_range **array,
				   struct storage_batch *batch)
{
	u64 capacity = storage->capacity;
	unsigned int i;

	for (i = 0; i < batch->nr_ranges; i++) {
		struct storage_range *range = &batch->ranges[i];

		range->position = capacity;
		capacity += range_usable_sectors(range);
		array[storage->nr_ranges + i] = range;
	}
	return capacity;
}

/* Does the storage stay below its limit with all of the ranges of @batch? */
static bool diff_storage_fits(const struct diff_storage *storage,
			      const struct storage_batch *batch)
{
	u64 capacity = storage->capacity;
	unsigned int i;

	for (i = 0; i < batch->nr_ranges; i++) {
		if (batch->ranges[i].place.nr_sectors > DIFF_STORAGE_MAX_SECTORS - capacity)
			return false;
		capacity += batch->ranges[i].place.nr_sectors;
	}
	return true;
}

/* Makes the new entries visible, all at once; returns the array to be freed. */
static struct storage_range **diff_storage_publish(struct diff_storage *storage,
						   struct storage_range **array,
						   unsigned int nr_new, u64 capacity)
{
	struct storage_range **old;
	unsigned long flags;

	spin_lock_irqsave(&storage->lock, flags);
	old = storage->by_position;
	storage->by_position = array;
	storage->nr_ranges += nr_new;
	storage->capacity = capacity;
	if (capacity - storage->nr_used > storage->low_limit)
		storage->is_low = false;
	spin_unlock_irqrestore(&storage->lock, flags);
	return old == array ? NULL : old;
}

/**
 * diff_storage_append() - add ranges at the end of the storage
 * @storage:	storage to be extended
 * @ranges:	inside of their devices
 * @nr_ranges:	number of @ranges; 0 changes nothing
 *
 * All or nothing.  A range that is unused, or too short to hold anything, is only
 * remembered for diff_storage_overlaps() and diff_storage_next_on_disk().
 *
 * Return: 0; -ENOMEM; or -EINVAL if a range is empty or overlaps another one of @ranges
 *	   or of @storage, or the storage would exceed DIFF_STORAGE_MAX_SECTORS.
 */
int diff_storage_append(struct diff_storage *storage, const struct diff_range *ranges,
			unsigned int nr_ranges)
{
	struct storage_range **array;
	struct storage_batch *batch;
	unsigned int array_size;
	u64 capacity;
	int ret;

	if (!nr_ranges)
		return 0;
	batch = storage_batch_alloc(ranges, nr_ranges);
	if (!batch)
		return -ENOMEM;
	ret = diff_storage_link_places(storage, batch);
	if (ret)
		goto err_free_batch;
	if (!diff_storage_fits(storage, batch)) {
		ret = -EINVAL;
		goto err_unlink_places;
	}
	array = diff_storage_grow_array(storage, batch, &array_size);
	if (!array) {
		ret = -ENOMEM;
		goto err_unlink_places;
	}

	capacity = diff_storage_fill_array(storage, array, batch);
	kvfree(diff_storage_publish(storage, array, nr_ranges, capacity));
	storage->array_size = array_size;
	list_add_tail(&batch->link, &storage->batches);
	return 0;

err_unlink_places:
	diff_storage_unlink_places(storage, batch, nr_ranges);
err_free_batch:
	kvfree(batch);
	return ret;
}

/*
 * Does @range share a sector with the storage?  Places are compared on the disk: a
 * range of a partition overlaps the same sectors of the whole disk.  Ranges count as
 * they were appended, with the parts that are never handed out.
 */
bool diff_storage_overlaps(struct diff_storage *storage, const struct diff_range *range)
{
	struct rb_node *rb = storage->places.rb_node;

	while (rb) {
		int order = place_compare(range, &rb_entry(rb, struct storage_range, rb)->place);

		if (!order)
			return true;
		rb = order < 0 ? rb->rb_left : rb->rb_right;
	}
	return false;
}

/*
 * The next range on @disk, in a partition or not, in the order of appending; false if
 * there is none.  @cursor is 0 for the first call.  Ranges may be appended between two
 * calls.
 */
bool diff_storage_next_on_disk(struct diff_storage *storage, const struct gendisk *disk,
			       unsigned int *cursor, struct diff_range *range)
{
	while (*cursor < storage->nr_ranges) {
		*range = storage->by_position[(*cursor)++]->place;
		if (range->bdev->bd_disk == disk)
			return true;
	}
	return false;
}

/*
 * The last range that begins at @position or before it.  Ranges of which nothing is
 * handed out are skipped: the next one begins there, too.
 */
static struct storage_range *__diff_storage_find(struct diff_storage *storage, u64 position)
{
	unsigned int low = 0;
	unsigned int high = storage->nr_ranges;

	lockdep_assert_held(&storage->lock);
	/* The range is among the entries [low, high). */
	while (high - low > 1) {
		unsigned int middle = low + (high - low) / 2;

		if (storage->by_position[middle]->position <= position)
			low = middle;
		else
			high = middle;
	}
	return storage->by_position[low];
}

/* @position is below the capacity.  The region ends with its range. */
static void __diff_storage_map(struct diff_storage *storage, u64 position,
			       sector_t nr_sectors, struct diff_range *region)
{
	struct storage_range *range = __diff_storage_find(storage, position);
	u64 offset = position - range->position;

	region->bdev = range->place.bdev;
	region->sector = range->place.sector + offset;
	region->nr_sectors = min(nr_sectors, range_usable_sectors(range) - offset);
}

static int __diff_storage_alloc(struct diff_storage *storage, sector_t nr_sectors,
				u64 *position, struct diff_range *region)
{
	lockdep_assert_held(&storage->lock);
	if (storage->nr_used == storage->capacity)
		return -ENOSPC;
	*position = storage->nr_used;
	__diff_storage_map(storage, *position, nr_sectors, region);
	region->nr_sectors = round_up(region->nr_sectors, DIFF_STORAGE_ALIGN_SECTORS);
	storage->nr_used += region->nr_sectors;
	return 0;
}

/* Sectors per jiffy.  Space taken all at once counts as taken over a period. */
static u64 __diff_storage_fill_rate(struct diff_storage *storage)
{
	unsigned long elapsed = jiffies - storage->period_start;
	u64 nr_taken = storage->nr_used - storage->period_first;
	u64 rate = div64_ul(nr_taken, max_t(unsigned long, elapsed, FILL_PERIOD));
	u64 fastest = max_t(u64, rate, storage->fill_rate);

	lockdep_assert_held(&storage->lock);
	if (elapsed >= FILL_PERIOD) {
		storage->fill_rate = rate;
		storage->before_start = storage->period_start;
		storage->before_first = storage->period_first;
		storage->period_start = jiffies;
		storage->period_first = storage->nr_used;
	}
	return fastest;
}

/* How much should be free, at least. */
static u64 __diff_storage_wanted(struct diff_storage *storage)
{
	return max_t(u64, storage->low_limit,
		     __diff_storage_fill_rate(storage) * msecs_to_jiffies(storage->ahead_ms));
}

/* True the first time after free space was lifted. */
static bool __diff_storage_got_low(struct diff_storage *storage, u64 wanted)
{
	lockdep_assert_held(&storage->lock);
	if (storage->is_low || storage->capacity - storage->nr_used > wanted)
		return false;
	storage->is_low = true;
	return true;
}

/**
 * diff_storage_alloc() - take space for copies
 * @storage:	storage to take it from
 * @nr_sectors:	how much is wanted, not 0
 * @position:	out: where the region begins in the storage
 * @region:	out: its place; its length, a multiple of DIFF_STORAGE_ALIGN_SECTORS,
 *		is @nr_sectors rounded up, or less if the range ends there
 *
 * May call the low-space function.
 *
 * Return: 0; -ENOSPC if nothing is left; -EINVAL if nothing is wanted.
 */
int diff_storage_alloc(struct diff_storage *storage, sector_t nr_sectors, u64 *position,
		       struct diff_range *region)
{
	unsigned long flags;
	bool got_low;
	u64 wanted;
	int ret;

	if (WARN_ON_ONCE(!nr_sectors))
		return -EINVAL;
	spin_lock_irqsave(&storage->lock, flags);
	ret = __diff_storage_alloc(storage, nr_sectors, position, region);
	wanted = __diff_storage_wanted(storage);
	got_low = __diff_storage_got_low(storage, wanted);
	spin_unlock_irqrestore(&storage->lock, flags);

	/* Twice as much, so that it does not get low again at once. */
	if (got_low)
		storage->low_fn(storage->data, 2 * wanted);
	return ret;
}

/**
 * diff_storage_map() - find the place of a position
 * @storage:	storage that the position is in
 * @position:	within regions from diff_storage_alloc()
 * @nr_sectors:	how much is wanted from there
 * @region:	out: the place, shorter than wanted if its range ends there.  Empty,
 *		without a device, if @position was never handed out, which is a bug
 *		of the caller.
 */
void diff_storage_map(struct diff_storage *storage, u64 position, sector_t nr_sectors,
		      struct diff_range *region)
{
	unsigned long flags;
	bool is_known;

	memset(region, 0, sizeof(*region));
	spin_lock_irqsave(&storage->lock, flags);
	is_known = position < storage->nr_used;
	if (is_known)
		__diff_storage_map(storage, position, nr_sectors, region);
	spin_unlock_irqrestore(&storage->lock, flags);
	WARN_ON_ONCE(!is_known);
}

/* In sectors, without those that are cut off for the alignment. */
sector_t diff_storage_capacity(struct diff_storage *storage)
{
	unsigned long flags;
	sector_t nr_sectors;

	spin_lock_irqsave(&storage->lock, flags);
	nr_sectors = storage->capacity;
	spin_unlock_irqrestore(&storage->lock, flags);
	return nr_sectors;
}

sector_t diff_storage_free_sectors(struct diff_storage *storage)
{
	unsigned long flags;
	sector_t nr_sectors;

	spin_lock_irqsave(&storage->lock, flags);
	nr_sectors = storage->capacity - storage->nr_used;
	spin_unlock_irqrestore(&storage->lock, flags);
	return nr_sectors;
}

/*
 * Sectors per second, since the beginning of the period before the current one.  A period
 * lasts until space is taken, so an idle storage is seen to be one.
 */
u64 diff_storage_fill_rate(struct diff_storage *storage)
{
	unsigned long flags, elapsed;
	u64 nr_taken;

	spin_lock_irqsave(&storage->lock, flags);
	nr_taken = storage->nr_used - storage->before_first;
	elapsed = jiffies - storage->before_start;
	spin_unlock_irqrestore(&storage->lock, flags);
	return div64_ul(nr_taken * HZ, max_t(unsigned long, elapsed, FILL_PERIOD));
}
