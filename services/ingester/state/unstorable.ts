// What of one batch no chunk could keep: counted, and the first one named. Versions before such samples were refused at the door let them into logs.
import { formatLabels } from '../../../shared/model/labels.ts'
import type { Head } from '../../../shared/tsdb/head/head.ts'

const NOTHING = { text: '', whose: '' }

export class Unstorable {
  private count = 0
  private first: { readonly head: Head; readonly series: string; readonly what: string } | undefined

  passOver(head: Head, ref: number, time: number, isHistogram = false): void {
    this.count++
    if (this.first !== undefined) return
    const what = `the first ${isHistogram ? 'a histogram at' : 'at'} ${time} ms`
    this.first = { head, series: formatLabels(head.labelsOf(ref)), what }
  }

  /** What was passed over since the last time this was asked, in words; `whose` is not for everybody. */
  taken(heads: ReadonlyMap<string, Head>): { readonly text: string; readonly whose: string } {
    const { count, first } = this
    this.count = 0
    this.first = undefined
    if (first === undefined) return NOTHING
    const tenant = [...heads].find(([, head]) => head === first.head)?.[0]
    const text = `${count} samples lie beyond what can be kept, ${first.what}`
    return { text, whose: `tenant ${tenant}, ${first.series}` }
  }
}
