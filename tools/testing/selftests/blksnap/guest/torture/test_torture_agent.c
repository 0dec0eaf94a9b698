// SPDX-License-Identifier: GPL-2.0
/*
 * Agents: snapshots from their creation to their end
 *
 * An agent works with some media that nobody else takes snapshots of meanwhile.
 * Of their origins it makes one snapshot or two, which live at the same time and
 * may be of a disk and of its partition.  Some are taken while the writers stand
 * still, most are not; some get enough storage at once, some when they ask for
 * it, some too little.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "test_torture.h"

#define MAX_AGENTS 4
#define AGENT_MEDIA 3
#define AGENT_SHOTS 2
#define EVENT_TIMEOUT_MS 40000	/* longer than a shot lives */
#define LATE_EVENT_MS 20000	/* from an error of an image to its event */

struct agent {
	struct medium *media[AGENT_MEDIA];
	unsigned int nr_media;
	struct shot shots[AGENT_SHOTS];
	unsigned int nr_shots;
	atomic_bool is_known;
};

static struct agent agents[MAX_AGENTS];

/* --- storage --- */

/* Who has a cell of the storage disk; 0 means nobody. */
static struct {
	pthread_mutex_t lock;
	const struct shot *owners[STORAGE_CELLS];
} storage = { .lock = PTHREAD_MUTEX_INITIALIZER };

/* Take free cells from a random one on; returns how many. */
static unsigned int take_cells(struct shot *shot, struct random *random,
			       unsigned int *cells, unsigned int nr)
{
	const unsigned int nr_cells = (torture.storage.nr_bytes - 2 * EDGE_BYTES) / MIB;
	const unsigned int first = random_below(random, nr_cells);
	unsigned int i, cell, done = 0;

	pthread_mutex_lock(&storage.lock);
	for (i = 0; i < nr_cells && done < nr; i++) {
		cell = (first + i) % nr_cells;
		if (cell >= STORAGE_CELLS || storage.owners[cell])
			continue;
		storage.owners[cell] = shot;
		cells[done++] = cell;
	}
	pthread_mutex_unlock(&storage.lock);
	return done;
}

/* Make ranges of cells, neighbours together, with borders anywhere in them. */
static unsigned int make_ranges(const unsigned int *cells, unsigned int nr,
				struct random *random,
				struct blk_snap_block_range *ranges)
{
	const unsigned int cell_sectors = MIB / SECTOR_SIZE;
	unsigned int i, nr_ranges = 0;

	for (i = 0; i < nr; i++) {
		struct blk_snap_block_range *last = &ranges[nr_ranges - 1];
		const uint64_t sector = EDGE_BYTES / SECTOR_SIZE + cells[i] * cell_sectors;

		if (nr_ranges && random_below(random, 8) &&
		    last->sector_offset + last->sector_count == sector) {
			last->sector_count += cell_sectors;
			continue;
		}
		ranges[nr_ranges++] = (struct blk_snap_block_range) {
			sector, cell_sectors,
		};
	}
	for (i = 0; i < nr_ranges; i++) {
		const uint64_t skip = random_below(random, 100);

		ranges[i].sector_offset += skip;
		ranges[i].sector_count -= skip + random_below(random, 100);
	}
	return nr_ranges;
}

/* A snapshot that was destroyed may still write to it, if the machine is busy. */
static int append_when_free(struct shot *shot, const struct disk *disk,
			    const struct blk_snap_block_range *ranges, unsigned int nr_ranges)
{
	unsigned int tries = 0;
	int ret;

	do {
		ret = control_snapshot_append_storage(ctl, &shot->id, disk->id, ranges,
						      nr_ranges);
		if (ret == -EBUSY)
			sleep_ms(20);
	} while (ret == -EBUSY && ++tries < 1000);
	return ret;
}

/**
 * storage_append() - append some of the storage disk to a snapshot
 * @shot:	the snapshot
 * @random:	decides where
 * @nr_mib:	how much
 *
 * Return: true if there was as much.
 */
bool storage_append(struct shot *shot, struct random *random,
		    unsigned int nr_mib)
{
	const struct disk *disk = shot->has_slow_storage ?
				  &torture.slow_storage : &torture.storage;
	struct blk_snap_block_range ranges[STORAGE_CELLS];
	unsigned int cells[STORAGE_CELLS], nr, nr_ranges;
	int ret;

	if (nr_mib > STORAGE_CELLS)
		nr_mib = STORAGE_CELLS;
	nr = take_cells(shot, random, cells, nr_mib);
	nr_ranges = make_ranges(cells, nr, random, ranges);
	ret = append_when_free(shot, disk, ranges, nr_ranges);
	if (ret && !(ret == -ESRCH && atomic_load(&shot->is_going)))
		fault_add(FAULT_CALL, "appending storage: %s", strerror(-ret));
	torture.nr_appends++;
	if (nr < nr_mib)
		shot->nr_refused++;
	return nr == nr_mib;
}

/* The snapshot is no more. */
void storage_give_back(struct shot *shot)
{
	unsigned int i;

	pthread_mutex_lock(&storage.lock);
	for (i = 0; i < STORAGE_CELLS; i++)
		if (storage.owners[i] == shot)
			storage.owners[i] = NULL;
	pthread_mutex_unlock(&storage.lock);
}

/* The end of an origin that nobody writes to. */
static void append_own_sectors(struct shot *shot, struct view *view)
{
	struct origin *origin = view->origin;
	struct blk_snap_block_range range = {
		origin->nr_used, origin->nr_sectors - origin->nr_used,
	};
	int ret;

	ret = control_snapshot_append_storage(ctl, &shot->id, origin->disk->id,
					      &range, 1);
	if (ret)
		fault_add(FAULT_CALL, "appending the end of %s: %s",
			  origin->disk->path, strerror(-ret));
	view->is_storage = !ret;
}

/* --- events --- */

static void note_corrupted(struct shot *shot,
			   const struct blk_snap_event_corrupted *event)
{
	unsigned int i;

	for (i = 0; i < shot->nr_views; i++) {
		struct view *view = &shot->views[i];

		if (memcmp(&event->orig_dev_id, &view->origin->disk->id,
			   sizeof(event->orig_dev_id)))
			continue;
		if (view->nr_corrupted++)
			fault_add(FAULT_EVENT, "%s was reported lost twice",
				  view->origin->disk->path);
		if (event->err_code != ENOSPC || shot->plan == PLAN_AMPLE)
			fault_add(FAULT_EVENT, "%s was lost, plan %d: %s",
				  view->origin->disk->path, shot->plan,
				  strerror(event->err_code));
		torture.nr_overflows++;
		return;
	}
	fault_add(FAULT_EVENT, "a stranger was reported lost: %u:%u",
		  event->orig_dev_id.mj, event->orig_dev_id.mn);
}

static void note_low(struct shot *shot, struct worker *worker,
		     const struct blk_snap_event_low_free_space *event)
{
	const int64_t wanted = module_parameter("diff_storage_minimum");

	torture.nr_low_events++;
	shot->nr_low++;
	if ((int64_t)event->requested_nr_sect < wanted)
		fault_add(FAULT_EVENT, "%llu sectors of storage are asked for, fewer than %lld",
			  (unsigned long long)event->requested_nr_sect,
			  (long long)wanted);
	if (shot->plan != PLAN_STEPWISE)
		return;
	worker_doing(worker, "appending storage");
	storage_append(shot, &worker->random,
		       1 + event->requested_nr_sect * SECTOR_SIZE / MIB);
}

/* Wait for an event of a shot; worker_fn. */
static void waiter_work(struct worker *worker)
{
	struct shot *shot = worker->data;
	struct blk_snap_snapshot_event event;
	unsigned int timeout_ms = EVENT_TIMEOUT_MS;
	int ret;

	if (random_below(&worker->random, 2))
		timeout_ms = random_below(&worker->random, 100);
	worker_doing(worker, "waiting for an event");
	ret = control_snapshot_wait_event(ctl, &shot->id, timeout_ms, &event);
	if (ret == -ENOENT)
		return;
	if (ret) {
		if (ret != -ESRCH || !atomic_load(&shot->is_going))
			fault_add(FAULT_CALL, "waiting for an event: %s",
				  strerror(-ret));
		atomic_store(&shot->waiters_stop, true);
		return;
	}
	if (event.code == blk_snap_event_code_low_free_space)
		note_low(shot, worker, (void *)event.data);
	else if (event.code == blk_snap_event_code_corrupted)
		note_corrupted(shot, (void *)event.data);
	else
		fault_add(FAULT_EVENT, "event of code %u", event.code);
}

/* --- creating --- */

static void shot_create(struct shot *shot)
{
	struct blk_snap_dev ids[SHOT_VIEWS];
	unsigned int i;
	int ret;

	for (i = 0; i < shot->nr_views; i++)
		ids[i] = shot->views[i].origin->disk->id;
	ret = control_snapshot_create(ctl, ids, shot->nr_views, &shot->id);
	if (ret) {
		fault_add(FAULT_CALL, "creating a snapshot of %u: %s",
			  shot->nr_views, strerror(-ret));
		shot->nr_views = 0;
	}
}

static uint64_t nr_bytes_of(const struct shot *shot)
{
	uint64_t nr = 0;
	unsigned int i;

	for (i = 0; i < shot->nr_views; i++)
		nr += shot->views[i].origin->disk->nr_bytes;
	return nr;
}

static void shot_append(struct shot *shot, struct worker *worker)
{
	struct random *random = &worker->random;
	struct origin *origin;
	unsigned int i, nr_mib;

	worker_doing(worker, "appending storage");
	for (i = 0; i < shot->nr_views; i++) {
		origin = shot->views[i].origin;
		if (origin->nr_sectors - origin->nr_used > 2 * UNUSED_SECTORS &&
		    shot->plan == PLAN_AMPLE && random_below(random, 2))
			append_own_sectors(shot, &shot->views[i]);
	}
	nr_mib = 1 + random_below(random, 2);
	if (shot->plan == PLAN_AMPLE)
		nr_mib = 8 + nr_bytes_of(shot) * 5 / 4 / MIB;
	/* There may be less than is ample. */
	if (!storage_append(shot, random, nr_mib))
		shot->plan = PLAN_OVERFLOW;
}

static void start_waiters(struct shot *shot, struct random *random)
{
	atomic_store(&shot->waiters_stop, false);
	shot->nr_waiters = 0;
	while (shot->nr_waiters < 1 + random_below(random, 2)) {
		shot->waiters[shot->nr_waiters] =
			worker_start(waiter_work, shot, &shot->waiters_stop,
				     "waiter %u.%u", shot->number,
				     shot->nr_waiters);
		shot->nr_waiters++;
	}
}

/* --- taking --- */

static bool view_find_image(struct view *view,
			    const struct blk_snap_image_info *infos,
			    unsigned int nr)
{
	unsigned int i;

	for (i = 0; i < nr; i++) {
		if (memcmp(&infos[i].orig_dev_id, &view->origin->disk->id,
			   sizeof(infos[i].orig_dev_id)))
			continue;
		snprintf(view->path, sizeof(view->path),
			 "/dev/" BLK_SNAP_IMAGE_NAME "%u",
			 infos[i].image_dev_id.mn);
		return wait_for_node(view->path, true);
	}
	return false;
}

static void open_images(struct shot *shot)
{
	struct blk_snap_image_info *infos;
	unsigned int i, nr;
	int ret, mode;

	ret = control_snapshot_collect_images(ctl, &shot->id, &infos, &nr);
	if (ret || nr != shot->nr_views)
		fault_add(FAULT_CALL, "collecting images: %s, %u of %u",
			  strerror(-ret), nr, shot->nr_views);
	if (ret)
		return;
	for (i = 0; i < shot->nr_views; i++) {
		struct view *view = &shot->views[i];

		if (!view_find_image(view, infos, nr)) {
			fault_add(FAULT_CALL, "no image of %s",
				  view->origin->disk->path);
			continue;
		}
		/* Some kernels do not mount what is open for writing. */
		mode = view->origin->medium->has_files ? O_RDONLY : O_RDWR;
		view->direct = open(view->path, mode | O_DIRECT | O_CLOEXEC);
		view->cached = open(view->path, O_RDONLY | O_CLOEXEC);
		if (view->direct < 0 || view->cached < 0)
			fault_add(FAULT_IO, "opening %s: %s", view->path,
				  strerror(errno));
	}
	free(infos);
}

static void prepare_views(struct shot *shot)
{
	unsigned int i;

	for (i = 0; i < shot->nr_views; i++) {
		struct origin *origin = shot->views[i].origin;

		memset(origin->seen, 0, origin->nr_sectors);
		if (origin->medium->has_files)
			files_before_take();
	}
}

static void note_take(struct shot *shot)
{
	unsigned int i;

	for (i = 0; i < shot->nr_views; i++) {
		struct origin *origin = shot->views[i].origin;

		origin->nr_takes++;
		origin->previous_take = origin->last_take;
		origin->last_take = shot->take_start;
		if (origin->medium->has_files)
			files_after_take();
	}
	torture.nr_takes++;
}

static void shot_take_now(struct shot *shot)
{
	int ret;

	prepare_views(shot);
	shot->take_start = tick();
	ret = control_snapshot_take(ctl, &shot->id);
	shot->take_end = tick();
	if (ret) {
		fault_add(FAULT_CALL, "taking a snapshot: %s", strerror(-ret));
		return;
	}
	shot->is_taken = true;
	note_take(shot);
}

static void copy_origin(struct view *view, struct worker *worker)
{
	struct origin *origin = view->origin;

	if (origin->medium->has_files)
		return;
	view->has_shadow = medium_read(origin->medium, origin->start,
				       origin->nr_used, origin->shadow,
				       worker->buffer);
}

/* Take it while nobody writes, with a copy of each origin to compare with. */
static void shot_take_still(struct agent *agent, struct shot *shot,
			    struct worker *worker)
{
	unsigned int i;

	worker_doing(worker, "holding writers still");
	for (i = 0; i < agent->nr_media; i++)
		medium_hold_still(agent->media[i]);
	worker_doing(worker, "copying origins");
	for (i = 0; i < shot->nr_views; i++)
		copy_origin(&shot->views[i], worker);
	worker_doing(worker, "taking a snapshot");
	shot_take_now(shot);
	for (i = 0; i < agent->nr_media; i++)
		medium_let_go(agent->media[i], &worker->random);
	torture.nr_still_takes++;
}

static void shot_take(struct agent *agent, struct shot *shot,
		      struct worker *worker)
{
	unsigned int i;

	worker_doing(worker, "resting before a take");
	sleep_ms(random_below(&worker->random, 60));
	if (!random_below(&worker->random, 3)) {
		shot_take_still(agent, shot, worker);
	} else {
		worker_doing(worker, "taking a snapshot");
		shot_take_now(shot);
	}
	if (!shot->is_taken)
		return;
	worker_doing(worker, "opening images");
	open_images(shot);
	for (i = 0; i < shot->nr_views; i++)
		view_show(&shot->views[i]);
}

/* --- looking --- */

static bool is_lost(const struct view *view)
{
	return atomic_load(&view->nr_corrupted) ||
	       atomic_load(&view->saw_error);
}

static void read_images(struct shot *shot, struct worker *worker)
{
	unsigned int i;

	for (i = 0; i < shot->nr_views; i++) {
		struct view *view = &shot->views[i];

		view->is_complete = view_read_all(view, worker) &&
				    !is_lost(view);
	}
}

static void let_images_be_written(struct shot *shot, struct worker *worker)
{
	unsigned int i;

	for (i = 0; i < shot->nr_views; i++)
		atomic_store(&shot->views[i].may_write,
			     !shot->views[i].origin->medium->has_files);
	worker_doing(worker, "letting images be written to");
	sleep_ms(random_below(&worker->random, 100));
	for (i = 0; i < shot->nr_views; i++) {
		struct view *view = &shot->views[i];

		/* Who is writing finishes first. */
		pthread_rwlock_wrlock(&view->lock);
		atomic_store(&view->may_write, false);
		pthread_rwlock_unlock(&view->lock);
	}
}

static void look_at_files(struct shot *shot, struct worker *worker)
{
	unsigned int i;

	for (i = 0; i < shot->nr_views; i++) {
		struct view *view = &shot->views[i];

		if (view->origin->medium->has_files && !is_lost(view))
			files_check(view, worker,
				    random_below(&worker->random, 2));
	}
}

static void shot_look(struct shot *shot, struct worker *worker)
{
	struct random *random = &worker->random;
	unsigned int i;

	if (!shot->is_taken)
		return;
	for (i = 0; i < shot->nr_views; i++)
		if (!random_below(random, 4))
			origin_mark(shot->views[i].origin, random);
	read_images(shot, worker);
	worker_doing(worker, "judging images");
	view_judge(shot);
	if (random_below(random, 2))
		let_images_be_written(shot, worker);
	look_at_files(shot, worker);
	worker_doing(worker, "resting while images are read");
	sleep_ms(random_below(random, 50));
	read_images(shot, worker);
	for (i = 0; i < shot->nr_views; i++)
		if (shot->views[i].is_storage)
			view_check_storage(&shot->views[i], worker);
	for (i = 0; i < shot->nr_views; i++)
		if (shot->views[i].is_complete && !shot->views[i].is_wild)
			view_check_map(&shot->views[i], worker);
}

/* --- ending --- */

/* A lost image is told, and is lost for good. */
static void check_loss(struct view *view, struct worker *worker)
{
	unsigned int ms;

	worker_doing(worker, "waiting for the event of a lost image");
	for (ms = 0; ms < LATE_EVENT_MS && !view->nr_corrupted; ms += 10)
		sleep_ms(10);
	if (!view->nr_corrupted)
		fault_add(FAULT_EVENT, "%s was lost without an event",
			  view->path);
	else
		view_expect_lost(view, worker);
}

static void view_close(struct view *view)
{
	view_hide(view);
	if (view->is_checked && !view->is_wild)
		origin_keep(view);
	else if (view->is_wild)
		origin_forget(view->origin);
	if (view->direct >= 0)
		close(view->direct);
	if (view->cached >= 0)
		close(view->cached);
}

static void shot_end(struct shot *shot, struct worker *worker)
{
	unsigned int i;
	int ret;

	if (!shot->nr_views)
		return;
	for (i = 0; i < shot->nr_views; i++)
		if (shot->is_taken && is_lost(&shot->views[i]))
			check_loss(&shot->views[i], worker);
	worker_doing(worker, "destroying a snapshot");
	atomic_store(&shot->is_going, true);
	ret = control_snapshot_destroy(ctl, &shot->id);
	if (ret)
		fault_add(FAULT_CALL, "destroying a snapshot: %s",
			  strerror(-ret));
	worker_doing(worker, "waiting for lookers");
	for (i = 0; i < shot->nr_views; i++)
		view_close(&shot->views[i]);
	worker_doing(worker, "waiting for waiters");
	for (i = 0; i < shot->nr_waiters; i++)
		worker_join(shot->waiters[i]);
	if (!shot->nr_low)
		fault_add(FAULT_EVENT, "a snapshot never asked for storage");
	storage_give_back(shot);
	shot->nr_views = 0;
}

/* --- a cycle --- */

static void choose_media(struct agent *agent, struct random *random)
{
	const unsigned int nr = 1 + random_below(random, AGENT_MEDIA);

	agent->nr_media = 0;
	while (agent->nr_media < nr) {
		struct medium *medium = medium_take(random);

		if (!medium)
			break;
		agent->media[agent->nr_media++] = medium;
	}
}

static bool is_of_agent(const struct agent *agent, const struct origin *origin)
{
	unsigned int i;

	for (i = 0; i < agent->nr_media; i++)
		if (agent->media[i] == origin->medium)
			return true;
	return false;
}

static void fold_media(struct agent *agent, struct worker *worker)
{
	unsigned int i;

	for (i = 0; i < agent->nr_media; i++) {
		struct medium *medium = agent->media[i];

		if (atomic_load(&medium->nr_ops) < MAX_OPS / 4 &&
		    random_below(&worker->random, 3))
			continue;
		worker_doing(worker, "holding writers still");
		medium_hold_still(medium);
		worker_doing(worker, "judging an origin");
		medium_fold(medium, worker->buffer);
		medium_let_go(medium, &worker->random);
	}
}

/* Now and then somebody stops tracking, or marks what it knows better. */
static void disturb_tracking(struct agent *agent, struct worker *worker)
{
	struct random *random = &worker->random;
	struct origin *origin;
	unsigned int i;

	worker_doing(worker, "disturbing the tracking");
	for (i = 0; i < torture.nr_origins; i++) {
		origin = &torture.origins[i];
		if (!is_of_agent(agent, origin))
			continue;
		if (!random_below(random, 10))
			origin_untrack(origin);
		else if (origin->last_take && !random_below(random, 4))
			origin_mark(origin, random);
	}
}

static void shot_init(struct shot *shot, struct random *random)
{
	static atomic_uint last_number;
	static const enum plan plans[] = {
		PLAN_AMPLE, PLAN_AMPLE, PLAN_AMPLE, PLAN_AMPLE, PLAN_AMPLE,
		PLAN_STEPWISE, PLAN_STEPWISE, PLAN_OVERFLOW,
	};

	memset(shot, 0, sizeof(*shot));
	shot->number = atomic_fetch_add(&last_number, 1) + 1;
	shot->plan = plans[random_below(random, ARRAY_SIZE(plans))];
	shot->has_slow_storage = torture.slow_storage.nr_bytes &&
				 !random_below(random, 3);
}

static void shot_add(struct shot *shot, struct origin *origin)
{
	struct view *view = &shot->views[shot->nr_views++];

	memset(view, 0, sizeof(*view));
	view->shot = shot;
	view->origin = origin;
	view->direct = -1;
	view->cached = -1;
	pthread_rwlock_init(&view->lock, NULL);
	pthread_mutex_init(&view->seen_lock, NULL);
}

/* Share the origins of the media out to the shots; some get none. */
static void plan_shots(struct agent *agent, struct random *random)
{
	struct shot *shot;
	unsigned int i;

	/* Lookers go through the shots, too. */
	pthread_mutex_lock(&torture.lock);
	agent->nr_shots = 1 + random_below(random, AGENT_SHOTS);
	for (i = 0; i < agent->nr_shots; i++)
		shot_init(&agent->shots[i], random);
	for (i = 0; i < torture.nr_origins; i++) {
		shot = &agent->shots[random_below(random, agent->nr_shots)];
		if (is_of_agent(agent, &torture.origins[i]) &&
		    shot->nr_views < SHOT_VIEWS && random_below(random, 8))
			shot_add(shot, &torture.origins[i]);
	}
	pthread_mutex_unlock(&torture.lock);
}

static void live(struct agent *agent, struct worker *worker)
{
	struct shot *shots = agent->shots;
	unsigned int i;

	for (i = 0; i < agent->nr_shots; i++) {
		if (!shots[i].nr_views)
			continue;
		worker_doing(worker, "creating a snapshot");
		shot_create(&shots[i]);
		if (!shots[i].nr_views)
			continue;
		shot_append(&shots[i], worker);
		start_waiters(&shots[i], &worker->random);
	}
	for (i = 0; i < agent->nr_shots; i++)
		if (shots[i].nr_views)
			shot_take(agent, &shots[i], worker);
	for (i = 0; i < agent->nr_shots; i++)
		shot_look(&shots[i], worker);
	i = random_below(&worker->random, agent->nr_shots);
	shot_end(&shots[i], worker);
	for (i = 0; i < agent->nr_shots; i++)
		shot_end(&shots[i], worker);
}

/* Take some media through the life of a snapshot or two; worker_fn. */
void agent_work(struct worker *worker)
{
	struct agent *agent = &agents[(uintptr_t)worker->data];
	unsigned int i;

	choose_media(agent, &worker->random);
	if (!agent->nr_media) {
		worker_doing(worker, "waiting for a medium");
		sleep_ms(10);
		return;
	}
	fold_media(agent, worker);
	disturb_tracking(agent, worker);
	plan_shots(agent, &worker->random);
	live(agent, worker);
	for (i = 0; i < agent->nr_media; i++)
		medium_give_back(agent->media[i]);
	torture.nr_cycles++;
}

/* Some image that is there; called with torture.lock held. */
struct view *view_pick(struct random *random)
{
	struct view *shown[MAX_AGENTS * AGENT_SHOTS * SHOT_VIEWS];
	unsigned int a, s, v, nr = 0;

	for (a = 0; a < MAX_AGENTS; a++)
		for (s = 0; s < AGENT_SHOTS; s++)
			for (v = 0; v < SHOT_VIEWS; v++)
				if (agents[a].shots[s].views[v].is_shown)
					shown[nr++] =
						&agents[a].shots[s].views[v];
	return nr ? shown[random_below(random, nr)] : NULL;
}
