// A watch over records of a bucket: hands over what it shows in order, and passes over what it cannot read.
import type { BusSubscription, KvBucket, KvEntry } from '../bus/port.ts'
import { type Decoded, decodeAt, paramsOf, type RecordContract, type RecordParams } from '../bus/record.ts'
import { type PassedOver, passedOver, type Told } from './passed-over.ts'

/** One entry as it was shown. */
export type Shown<P extends string, T> = {
  readonly key: string
  readonly params: RecordParams<P>
  readonly revision: number
} & (Decoded<T> | { readonly kind: 'gone' })

/** A record, and who hears of it. */
export interface Ear {
  readonly contract: RecordContract<string, unknown>
  readonly hear: (shown: Shown<string, unknown>) => void
}

export function on<P extends string, T>(contract: RecordContract<P, T>, hear: (shown: Shown<P, T>) => void): Ear {
  return { contract, hear } as unknown as Ear
}

export interface RecordsWatch extends Told {
  readonly bucket: KvBucket
  readonly filter: string
  /** Records of one bucket. An entry whose key is that of none is passed over. */
  readonly ears: readonly [Ear, ...Ear[]]
}

/** `onReady` when what stood there has been shown. */
export function watchRecords({ bucket, filter, ears, ...told }: RecordsWatch, onReady: () => void): BusSubscription {
  const unread = passedOver(told)
  return bucket.watch(filter, (entry) => show(entry, ears, unread), onReady)
}

function show(entry: KvEntry, ears: RecordsWatch['ears'], unread: PassedOver): void {
  for (const { contract, hear } of ears) {
    const shown = shownAs(contract, entry, unread)
    if (shown !== undefined) return hear(shown)
  }
  if (entry.value === undefined) return
  const reason = `its key is not ${ears.map(({ contract }) => contract.key).join(' or ')}`
  unread.note(nearest(entry.key, ears).contract, entry, { kind: 'unreadable', reason })
}

/** Whose key it was most likely to be. */
function nearest(key: string, ears: RecordsWatch['ears']): Ear {
  return ears.find(({ contract }) => contract.key.split('.')[0] === key.split('.')[0]) ?? ears[0]
}

/** undefined: the key is none of this record. */
export function shownAs<P extends string, T>(
  contract: RecordContract<P, T>,
  { key, value, revision }: KvEntry,
  unread: PassedOver,
): Shown<P, T> | undefined {
  const params = paramsOf(contract, key)
  if (params === undefined) return undefined
  if (value === undefined) return { key, params, revision, kind: 'gone' }
  const decoded = decodeAt(contract, { key, params, bytes: value })
  if (decoded.kind !== 'value') unread.note(contract, { key, revision }, decoded)
  return { key, params, revision, ...decoded }
}
