// What may happen in a history, each by a switch of its own: a history has it or not, by the seed and by what was asked for. Every switch draws from a
// generator of its own, so that turning one off changes nothing of what the others do.
import { type Random, seededRandom } from '../../shared/base/random.ts'

export interface Switch {
  /** Share of the histories that have it. */
  readonly chance: number
  readonly doc: string
  /** Left out unless it is asked for: the product is known to fail by it, for this reason. */
  readonly unmended?: string
}

export const SWITCHES = {
  // ---- messages and appends
  core: { chance: 0.7, doc: 'core messages are lost, late, and overtake each other' },
  doubles: { chance: 0.2, doc: 'core messages come twice' },
  appends: { chance: 0.7, doc: 'appends and their answers are lost or slow' },
  'duplicate-window': { chance: 0.2, doc: 'the duplicate window of the logs ends within the history' },
  'full-logs': { chance: 0.12, doc: 'logs are so small that they fill' },
  // ---- reads of servers that are behind
  'stale-marks': { chance: 0.7, doc: 'exact reads of a log are answered by a copy that is behind, and say so' },
  'stale-gets': { chance: 0.3, doc: 'a get of a bucket is answered by a copy that is behind' },
  watch: { chance: 0.5, doc: 'watches are late and show their changes one by one' },
  'bucket-answers': { chance: 0.5, doc: 'answers of bucket writes are lost' },
  // ---- actors
  pauses: { chance: 0.7, doc: 'actors stand still for longer than a segment' },
  kills: { chance: 0.7, doc: 'actors are killed and come back' },
  cuts: { chance: 0.4, doc: 'actors lose their connection for a while' },
  clocks: { chance: 0.8, doc: 'wall clocks are up to five minutes wrong, by another amount after each start' },
  'clock-jumps': { chance: 0.3, doc: 'wall clocks jump' },
  ring: { chance: 0.6, doc: 'who is silent for a second loses its partitions to others' },
  growth: { chance: 0.3, doc: 'partitions are added' },
  scaling: { chance: 0.12, doc: 'an ingester joins, another leaves' },
  // ---- the object store
  objects: { chance: 0.6, doc: 'the object store is slow, and now and then away' },
  'object-answers': { chance: 0.3, doc: 'an object stands and the answer is lost' },
  'object-damage': { chance: 0.15, doc: 'an object is stored with a wrong byte' },
  'object-misread': { chance: 0.15, doc: 'a wrong byte of an object is read once' },
  // ---- what else clients do
  pair: { chance: 0.35, doc: 'an HA pair sends' },
  kinds: { chance: 0.25, doc: 'histograms, stale markers, NaN and start times are sent' },
  compaction: { chance: 0.4, doc: 'two compactors merge, sweep and retire' },
  uploads: { chance: 0.15, doc: 'blocks are uploaded (with compactors)' },
  'compactor-views': { chance: 0.5, doc: 'watches and gets of compactors are behind, too' },
  // ---- deletions
  deletions: { chance: 0.35, doc: 'series are deleted (with compactors)' },
  undo: { chance: 0.6, doc: 'deletions are taken back, some too late' },
  clean: { chance: 0.3, doc: 'windows are ended before their time' },
  'tenant-deletions': { chance: 0.3, doc: 'a whole tenant is deleted' },
  forsaken: { chance: 0.03, doc: 'whoever asked for a deletion is gone before it is answered: others complete it' },
  nameless: {
    chance: 0.3,
    doc: 'who is not answered asks for another deletion of the same, as clients of Prometheus do',
  },
  'deletion-growth': { chance: 0.5, doc: 'deletions, while partitions are added or have no mark yet' },
  'deletion-pauses': { chance: 0.5, doc: 'deletions, while compactors stand still' },
  'deletion-clocks': { chance: 0.5, doc: 'deletions, while clocks are wrong' },
  'deletion-damage': { chance: 0.5, doc: 'deletions, while logs are damaged' },
  // ---- damage of logs
  'hide-one': { chance: 0.2, doc: 'a message is delivered to all owners but one' },
  'hide-all': { chance: 0.1, doc: 'a log loses a message before anybody reads it' },
  'bad-bytes': { chance: 0.1, doc: 'a message has a wrong byte, for one owner or all' },
  'cut-tail': { chance: 0.06, doc: 'the server dies and a log comes back without its newest messages' },
  'cut-far': { chance: 0.4, doc: 'a log comes back without many of them, of which somebody who lives on has read all' },
  'lost-marks': {
    chance: 0.06,
    doc: 'the server dies and a log comes back without its newest marks, though with its end',
  },
  anew: { chance: 0.04, doc: 'a stream is deleted and made anew' },
  'damaged-marks': { chance: 0.3, doc: 'damage hits marks as well' },
  'damage-core': { chance: 0.5, doc: 'damage, while core messages are lost' },
  'damage-ring': { chance: 0.5, doc: 'damage, while others than owners live and partitions move' },
  'damage-kills': { chance: 0.5, doc: 'damage, while ingesters die and stand still' },
} as const satisfies Record<string, Switch>

export type SwitchName = keyof typeof SWITCHES

const NAMES = Object.keys(SWITCHES) as SwitchName[]
const unmendedOf = (name: SwitchName): string | undefined => (SWITCHES[name] as Switch).unmended

/** Damage of logs. */
const DAMAGE: readonly SwitchName[] = ['hide-one', 'hide-all', 'bad-bytes', 'cut-tail', 'anew', 'lost-marks']

export interface Asked {
  /** Only these may happen; absent: all. */
  readonly only?: readonly string[]
  /** These never happen. */
  readonly no?: readonly string[]
  /** These happen in every history. */
  readonly always?: readonly string[]
  /** Also what is not mended. */
  readonly all?: boolean
}

export class Plan {
  readonly seed: number
  private readonly on = new Set<SwitchName>()

  constructor(seed: number, { only, no = [], always = [], all = false }: Asked = {}) {
    this.seed = seed
    for (const name of [...(only ?? []), ...no, ...always])
      if (!(name in SWITCHES)) throw new Error(`there is no switch "${name}"; there are ${NAMES.join(', ')}`)
    for (const name of NAMES) {
      const isAsked = always.includes(name) || only?.includes(name) === true
      const mayHappen = (only === undefined || isAsked) && (all || isAsked || unmendedOf(name) === undefined)
      const isDrawn = always.includes(name) || this.random(`has ${name}`).next() < SWITCHES[name].chance
      if (mayHappen && isDrawn && !no.includes(name)) this.on.add(name)
    }
    this.exclude()
  }

  has(name: SwitchName): boolean {
    return this.on.has(name)
  }

  get isDamaging(): boolean {
    return DAMAGE.some((name) => this.on.has(name))
  }

  get hasCompactors(): boolean {
    return ['compaction', 'uploads', 'deletions'].some((name) => this.on.has(name as SwitchName))
  }

  /** In words, for the trace. */
  names(): string[] {
    return [...this.on]
  }

  /** A generator for one purpose. */
  random(purpose: string): Random {
    let hash = this.seed >>> 0
    for (let i = 0; i < purpose.length; i++) hash = Math.imul(hash ^ purpose.charCodeAt(i), 0x01000193) >>> 0
    return seededRandom(hash)
  }

  /** What two switches bring about together has a switch of its own: without it the one gives way to the other. */
  private exclude(): void {
    const { on } = this
    const without = (...names: SwitchName[]) => {
      for (const name of names) on.delete(name)
    }
    if (!on.has('deletions')) without('undo', 'clean', 'tenant-deletions', 'forsaken', 'nameless', 'deletion-growth')
    if (!on.has('deletions')) without('deletion-pauses', 'deletion-clocks', 'deletion-damage')
    else {
      if (this.isDamaging && !on.has('deletion-damage')) without(...DAMAGE)
      if (!on.has('deletion-growth')) without('growth')
    }
    if (!this.hasCompactors) without('compactor-views')
    if (!this.isDamaging) without('damaged-marks', 'damage-core', 'damage-ring', 'damage-kills')
    else {
      if (!on.has('damage-core')) without('core', 'doubles')
      if (!on.has('damage-ring')) without('ring', 'growth', 'scaling')
    }
    if (on.has('cut-tail')) without('lost-marks')
    if (on.has('anew')) without('cut-tail', 'lost-marks') // what came back of an older stream and what of a newer could not be told apart
    if (!on.has('cut-tail')) without('cut-far')
    else if (on.has('cut-far')) without('damage-kills', 'damage-ring', 'ring', 'growth', 'scaling')
  }
}
