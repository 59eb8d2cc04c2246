// What one body brings, in columns: admission stages it, elections and limits take out of it, and the rest is written. A hot kernel: no object
// per float sample.
import type { Refusal } from '../../../shared/model/label-rules.ts'
import type { Claim } from '../ha/election.ts'
import type { StagedExemplar, StagedHistogram, StagedMetadata } from '../log/session.ts'

/** What one body brings, until it is handed to the partition writers. */
export class Staged {
  count = 0
  refs = new Uint32Array(4096)
  times = new Float64Array(4096)
  /** Low and high word of each value: bits do not survive as numbers. */
  words = new Uint32Array(8192)
  /** Made by the first float that has a start time: of each float, 0 where it is unknown. */
  startTimes: Float64Array | undefined
  histograms: StagedHistogram[] = []
  exemplars: StagedExemplar[] = []
  metadata: StagedMetadata[] = []
  /** Series that the dictionary did not know before. */
  newRefs: number[] = []
  /** What it brings for elections, each (election, replica) once, by the dictionary's number of the two. */
  readonly claims = new Map<number, Claim>()
  firstRefusal: Refusal | undefined
  /** Samples left out, by reason. */
  readonly discarded = new Map<string, number>()
  /** What samples do without, by reason: its sender is not refused for it, as no repeat would change that. */
  readonly leftOut = { exemplars: new Map<string, number>(), metadata: new Map<string, number>() }

  get samples(): number {
    return this.count + this.histograms.length
  }

  clear(): void {
    this.count = 0
    this.startTimes = undefined
    this.histograms = []
    this.exemplars = []
    this.metadata = []
    this.newRefs = []
    this.claims.clear()
    this.firstRefusal = undefined
    this.discarded.clear()
    this.leftOut.exemplars.clear()
    this.leftOut.metadata.clear()
  }

  /** Takes out what is said to be out. */
  remove(isOut: (ref: number, time: number, kind: 'samples' | 'histograms' | 'exemplars') => boolean): void {
    let kept = 0
    for (let i = 0; i < this.count; i++) {
      if (isOut(this.refs[i]!, this.times[i]!, 'samples')) continue
      this.refs[kept] = this.refs[i]!
      this.times[kept] = this.times[i]!
      this.words[2 * kept] = this.words[2 * i]!
      this.words[2 * kept + 1] = this.words[2 * i + 1]!
      if (this.startTimes !== undefined) this.startTimes[kept] = this.startTimes[i]!
      kept++
    }
    this.count = kept
    this.histograms = this.histograms.filter(({ ref, time }) => !isOut(ref, time, 'histograms'))
    this.exemplars = this.exemplars.filter(({ ref }) => !isOut(ref, Number.POSITIVE_INFINITY, 'exemplars')) // theirs may be older
  }

  refuse(reason: Refusal, samples = 1): void {
    this.firstRefusal ??= reason
    this.discarded.set(reason.reason, (this.discarded.get(reason.reason) ?? 0) + samples)
  }

  leaveOut(kind: keyof Staged['leftOut'], reason: string): void {
    const counts = this.leftOut[kind]
    counts.set(reason, (counts.get(reason) ?? 0) + 1)
  }

  /** The value's two words come from `words`. */
  addFloat(ref: number, time: number, words: Uint32Array): void {
    if (this.count === this.refs.length) this.grow()
    if (this.startTimes !== undefined) this.startTimes[this.count] = 0
    this.refs[this.count] = ref
    this.times[this.count] = time
    this.words[2 * this.count] = words[0]!
    this.words[2 * this.count + 1] = words[1]!
    this.count++
  }

  /** Gives the last float its start time. */
  setStart(startTime: number): void {
    this.startTimes ??= new Float64Array(this.refs.length)
    this.startTimes[this.count - 1] = startTime
  }

  private grow(): void {
    const refs = new Uint32Array(this.refs.length * 2)
    refs.set(this.refs)
    this.refs = refs
    const times = new Float64Array(this.times.length * 2)
    times.set(this.times)
    this.times = times
    const words = new Uint32Array(this.words.length * 2)
    words.set(this.words)
    this.words = words
    if (this.startTimes === undefined) return
    const startTimes = new Float64Array(this.refs.length)
    startTimes.set(this.startTimes)
    this.startTimes = startTimes
  }
}
