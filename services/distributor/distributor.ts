// The distributor takes in what a tenant writes, refuses what breaks the tenant's limits, and appends everything else to the logs of
// the partitions that own it.
//
// Invariants
//   WRITE-1  A write is acknowledged only when every batch made from it is stored where every owner can read it (LOG-5, LOG-6).
//   WRITE-2  A refused series never holds back an accepted one from the same write.
//   WRITE-3  The distributor keeps nothing that matters: killing it loses only writes not yet acknowledged.
//   WRITE-4  Overload and a full log answer 503, never 429: a sender drops what got 429.
//   WRITE-5  Of an HA pair one replica is stored at a time (elections.ts, LOG-22).
//   WRITE-6  Nobody writes by a view of the ring that has not been confirmed for long (LOG-19): longer than queriers bear, for what lands by an
//       old view is read all the same, and several elections in a row must not stop writes.
//   WRITE-7  A log that does not answer, or is full, delays and refuses only pushes with something that goes there.
import { every, hear, serve } from '../../shared/bus/actor.ts'
import { type ElectionNewsReply, electionNews } from '../../shared/contracts/elections.ts'
import { ownerCounted } from '../../shared/contracts/read.ts'
import { push, pushTo } from '../../shared/contracts/write.ts'
import { watchKeep } from '../../shared/limits/keep.ts'
import type { ServiceDeps } from '../../shared/membership/deps.ts'
import type { MemberActor } from '../../shared/membership/member-actor.ts'
import { Readiness } from './admit/readiness.ts'
import { TenantLimits } from './admit/tenant-limits.ts'
import { OwnerNews } from './admit/write-limits.ts'
import type { DistributorConfig } from './config.ts'
import { Elections } from './ha/elections.ts'
import { CurrentDictionary } from './log/current-dictionary.ts'
import { Partitions } from './log/partitions.ts'
import { Pushes } from './push.ts'
import { pushMetrics } from './push-metrics.ts'

export type DistributorDeps = ServiceDeps & {
  readonly config: DistributorConfig
  /** Parts of the protocol left out; only the simulation's counter-proofs set it. */
  readonly without?: ReadonlySet<string>
}

const OWNER_NEWS_FRESH_MS = 20_000
const LOG_STATE_MS = 5_000
const ELECTIONS_REVIEW_MS = 60_000
const DICTIONARY_REVIEW_MS = 600_000
const MARKS_MS = 1_000

export function distributor(deps: DistributorDeps): MemberActor {
  const { clock, config, metrics, id } = deps
  const counted = pushMetrics(metrics)
  const news = new OwnerNews(clock, OWNER_NEWS_FRESH_MS)
  const elections = new Elections(deps)
  const keep = watchKeep(deps)
  const dictionary = new CurrentDictionary(deps)
  const partitions = new Partitions({ ...deps, onMoved: () => dictionary.renew() })
  const readiness = new Readiness({ ...deps, news, partitions })
  const limits = new TenantLimits({ ...deps, news, discarded: counted.discarded })
  const pushes = new Pushes({ ...deps, partitions, dictionary, readiness, limits, elections, keep, counted })

  return {
    name: 'distributor',
    serves: [
      serve(push, (request, context) => pushes.push(request, context), { queue: 'distributor' }),
      serve(pushTo, (request, context) => pushes.push(request, context), { params: { id } }),
      serve(electionNews, async ({ tenant }): Promise<ElectionNewsReply> => elections.news(tenant), { id }),
    ],
    hears: [hear(ownerCounted, (counts) => news.hear(counts))],
    every: [
      every(LOG_STATE_MS, 'read how full the logs are', () => partitions.readStates()),
      every(config.highWaterMs, 'write down the newest stored batch of each session', () => partitions.saveHighWater()),
      every(DICTIONARY_REVIEW_MS, 'start the dictionary afresh when most of it is old', () => dictionary.review()),
      every(ELECTIONS_REVIEW_MS, 'delete elections that have been idle for long', () => elections.cleanUp()),
      every(MARKS_MS, 'look for marks and partitions', () => partitions.findMarks()),
    ],
    async start() {
      await partitions.open()
      await elections.start()
      await keep.start()
      await partitions.findLogs()
    },
    lacks: () => readiness.lacks(),
    async stop() {
      partitions.stop()
      keep.stop()
      elections.stop() // WRITE-3: nothing else; what is at work in lanes ends by itself
    },
  }
}
