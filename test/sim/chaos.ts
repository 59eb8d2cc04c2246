// What goes wrong while it may, and how all of it is set right again.
import { UnavailableError } from '../../shared/base/errors.ts'
import type { Bus } from '../../shared/bus/port.ts'
import { addPartitions, readPartitions } from '../../shared/membership/bootstrap.ts'
import type { Cast } from './cast.ts'
import type { SwitchName } from './faults.ts'
import type { Reached } from './log-watch.ts'
import type { Scene } from './scene.ts'

const PAUSE_MS_MAX = 1_500
const AWAY_MS_MAX = 600
const GROWTH_TRIES_MAX = 400
const JOINER = 'ingester-9'

/** Probabilities of the hub, drawn anew for each history. */
export function setFaults({ hub, plan }: Scene): void {
  const { faults } = hub
  const chance = plan.random('hub')
  const draw = (name: SwitchName, most: number) => {
    const drawn = chance.next() * most // in any case, so that no switch changes the others
    return plan.has(name) ? drawn : 0
  }
  faults.delayMs = { minMs: 0, maxMs: draw('core', 20) }
  faults.drop = draw('core', 0.05)
  faults.reorder = draw('core', 0.2)
  faults.duplicate = draw('doubles', 0.1)
  faults.appendDelayMs = { minMs: 0, maxMs: draw('appends', 100) }
  faults.storeButLoseAck = draw('appends', 0.2)
  faults.dropBeforeStore = draw('appends', 0.2)
  faults.kvLoseAck = draw('bucket-answers', 0.1)
  faults.staleRead = draw('stale-marks', 0.5)
  faults.staleGet = draw('stale-gets', 0.3)
  faults.staleBehindMax = 1 + chance.below(8)
  faults.watchOneByOne = draw('watch', 0.8)
  faults.watchDelayMs = { minMs: 0, maxMs: draw('watch', 60) }
  if (!plan.has('compactor-views')) faults.isUpToDate = (name) => name.startsWith('compactor')
  if (plan.has('duplicate-window')) faults.duplicateWindowMs = 400
}

export function endFaults({ hub }: Scene): void {
  const none = { minMs: 0, maxMs: 0 }
  Object.assign(hub.faults, { drop: 0, duplicate: 0, reorder: 0, storeButLoseAck: 0, dropBeforeStore: 0, kvLoseAck: 0 })
  Object.assign(hub.faults, { staleRead: 0, staleGet: 0, watchOneByOne: 0 })
  Object.assign(hub.faults, { delayMs: none, appendDelayMs: none, watchDelayMs: none })
}

/** Pauses, cuts and kills actors at random until the chaos is over. A pause may outlast several segments. */
export async function disturb(scene: Scene, cast: Cast): Promise<void> {
  const { plan } = scene
  const chance = plan.random('chaos')
  const kinds = (['pauses', 'kills', 'cuts'] satisfies SwitchName[]).filter((name) => plan.has(name))
  while (scene.isChaos()) {
    await scene.sleep(50 + chance.below(500))
    const actors = cast.all()
    const victim = actors[chance.below(actors.length)]!
    const kind = kinds[chance.below(Math.max(1, kinds.length))]
    const pauseMs = 50 + chance.below(PAUSE_MS_MAX)
    const awayMs = 50 + chance.below(AWAY_MS_MAX)
    if (kind === undefined || victim.isDown || victim.isPaused || !scene.isChaos()) continue
    const isSpared = victim.role === 'ingester' && plan.isDamaging && !plan.has('damage-kills')
    const isSteady = victim.role === 'compactor' && plan.has('deletions') && !plan.has('deletion-pauses')
    if (isSpared || (isSteady && kind !== 'kills')) continue
    if (kind === 'pauses') cast.pause(victim.id, pauseMs)
    else if (kind === 'cuts') cast.cut(victim.id, pauseMs)
    else cast.kill(victim.id, awayMs)
  }
}

/** The server dies once, and one log comes back without its end, or its newest marks; or a stream is made anew. */
export async function damageLogs(scene: Scene, cast: Cast): Promise<void> {
  const chance = scene.plan.random('logs')
  await scene.sleep(700 + chance.below(scene.chaosMs - 1_000))
  const { count } = partitionsOf(scene)
  if (scene.plan.has('anew')) return scene.logs.makeAnew(chance.below(count))
  const cut = cast.all().filter(({ isDown }) => !isDown)
  for (const { id } of cut) scene.hub.disconnect(id)
  if (scene.plan.has('cut-tail')) {
    const partition = chance.below(count)
    scene.logs.cutTail(partition, reachedIn(cast, partition))
  } else scene.logs.loseMarks(chance.below(count))
  await scene.sleep(20 + chance.below(300))
  for (const victim of cut) if (!victim.isDown && cast.running.get(victim.id) === victim) scene.hub.reconnect(victim.id)
}

function reachedIn(cast: Cast, partition: number): Reached {
  const owners = () => cast.owners().flatMap(({ owner }) => (owner.partition === partition ? [owner] : []))
  return (seq) => {
    const readers = new WeakSet(owners().filter((owner) => owner.appliedSeq >= seq))
    return () => owners().length > 0 && owners().every((owner) => readers.has(owner))
  }
}

/** Logs that exist. */
export function partitionsOf({ hub }: Scene): { count: number } {
  let count = 0
  while (hub.log(`log-${count}`) !== undefined) count++
  return { count }
}

/** Partitions are added while all the rest goes on (LOG-19). */
export async function grow(scene: Scene, admin: Bus): Promise<void> {
  const chance = scene.plan.random('growth')
  const { count } = partitionsOf(scene)
  await scene.sleep(chance.below(scene.chaosMs / 2))
  const wanted = count + 1 + chance.below(2)
  scene.trace(`${wanted - count} partitions are added`)
  for (let tries = 0; tries < GROWTH_TRIES_MAX; tries++) {
    try {
      const before = await readPartitions(admin)
      if (before.count < wanted) await addPartitions(admin, wanted - before.count)
      if ((await readPartitions(admin)).writable === wanted) return
    } catch (error) {
      if (!(error instanceof UnavailableError)) throw error
    }
    await scene.sleep(100)
  }
  scene.fault('added partitions did not open')
}

/** An ingester joins, and later the first one leaves for good. */
export async function scale(scene: Scene, cast: Cast): Promise<void> {
  const chance = scene.plan.random('scaling')
  await scene.sleep(chance.below(scene.chaosMs / 2))
  scene.trace(`${JOINER} joins`)
  await cast.start(JOINER, 'ingester')
  if (chance.next() < 0.5) return
  await scene.sleep(chance.below(scene.chaosMs / 2))
  await cast.leave('ingester-1')
}
