// Remote write 1.0 and 2.0, start times as rc.3 and as rc.4 have them: one pass over the protobuf bytes, no object per sample.
//
// Invariants
//   REMOTE-1  A request is told completely or refused; a sink counts nothing before the reader has returned (write-sink.ts). Of a series
//       that it skips the samples are counted, not judged.
//   REMOTE-2  The fields of a message may come in any order and any number, as protobuf allows: labels after samples, labels apart,
//       symbols after series. The usual order takes the fast way and the others a slower one, with the same outcome.
//   REMOTE-3  Values keep their bits: they are copied as words, never as numbers.
//   REMOTE-4  Work and memory are bounded by the body's length and WriteLimits.
//   REMOTE-5  What can be read as protobuf but makes no sense (2.0: references to symbols that are not there, a series without samples) costs the
//       series or the exemplar that it stands in, never its neighbours.
// Hot kernel: long straight functions on purpose.
import type { RefusedError } from '../base/errors.ts'
import { formatLabels } from '../model/labels.ts'
import { familyOf } from './family.ts'
import { forEachLabel, RegionBuilder, regionEnd } from './label-region.ts'
import {
  cursor,
  FIXED64,
  LENGTH,
  malformed,
  readInt64,
  readLength,
  readTag,
  readUvarint,
  skipField,
  truncated,
  VARINT,
  wrongWireType,
} from './protobuf.ts'
import { type UnwantedLabels, unwantedEnd } from './unwanted.ts'
import { decodeUtf8Leniently } from './utf8.ts'
import { defaultWriteLimits, METRIC_TYPES, type SeriesFault, type WriteLimits, type WriteSink } from './write-sink.ts'

/** The value being told. Readers run to their end without yielding, so one slot serves all. */
const slot = new Float64Array(1)
const slotWords = new Int32Array(slot.buffer)

const seriesRegion = new RegionBuilder()
const exemplarRegion = new RegionBuilder()

/** One request being read. */
interface Walk {
  readonly bytes: Uint8Array
  readonly view: DataView
  readonly sink: WriteSink
  readonly limits: WriteLimits
  readonly version: 1 | 2
  seriesCount: number
  sampleCount: number
  exemplarCount: number
  metadataCount: number
  regionBytes: number
  /** Start time given for a whole series, as 2.0-rc.3 did. */
  seriesStart: number
}

/** Field numbers of the parts of a TimeSeries message, which the two protocols give differently. */
const HISTOGRAM_FIELD = { 1: 4, 2: 3 } as const
const EXEMPLAR_FIELD = { 1: 3, 2: 4 } as const

/** Tells `sink` a prometheus.WriteRequest. Throws RefusedError `err-carillon-protobuf`; then nothing told may count. */
export function readWriteV1(bytes: Uint8Array, sink: WriteSink, limits: WriteLimits = defaultWriteLimits): void {
  const walk = walkOf(bytes, sink, limits, 1)
  const end = bytes.length
  for (let at = 0; at < end; ) {
    const tag = readTag(bytes, at, end)
    if (tag === 0x0a) {
      at = readLength(bytes, cursor.at, end) + cursor.at
      readSeriesV1(walk, cursor.at, at)
    } else if (tag === 0x1a) {
      at = readLength(bytes, cursor.at, end) + cursor.at
      readMetadataV1(walk, cursor.at, at)
    } else {
      if (tag >>> 3 === 1 || tag >>> 3 === 3) throw wrongWireType(tag, tag >>> 3 === 1 ? 'timeseries' : 'metadata')
      at = skipField(tag, bytes, cursor.at, end) // field 2 among them: the source that other systems write there
    }
  }
}

/** Tells `sink` an io.prometheus.write.v2.Request. Throws RefusedError `err-carillon-protobuf`; then nothing told may count. */
export function readWriteV2(bytes: Uint8Array, sink: WriteSink, limits: WriteLimits = defaultWriteLimits): void {
  const walk = walkOf(bytes, sink, limits, 2)
  const end = bytes.length
  let first = readSymbols(walk)
  metadataTold.clear()
  unwantedFor = undefined
  while (first < end) {
    const tag = readTag(bytes, first, end)
    if (tag === 0x2a) {
      first = readLength(bytes, cursor.at, end) + cursor.at
      readSeriesV2(walk, cursor.at, first)
    } else first = skipField(tag, bytes, cursor.at, end)
  }
}

function walkOf(bytes: Uint8Array, sink: WriteSink, limits: WriteLimits, version: 1 | 2): Walk {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  const counts = { seriesCount: 0, sampleCount: 0, exemplarCount: 0, metadataCount: 0, regionBytes: 0, seriesStart: 0 }
  return { bytes, view, sink, limits, version, ...counts }
}

function readSeriesV1(walk: Walk, start: number, end: number): void {
  const { bytes, sink } = walk
  if (++walk.seriesCount > walk.limits.seriesMax) throw tooMany('series', walk.limits.seriesMax)
  if (sink.unwanted !== undefined) {
    const unwantedEnds = unwantedEnd(bytes, walk.view, start, end, sink.unwanted)
    if (unwantedEnds >= 0) return skipSamples(walk, unwantedEnds, end)
  }
  let labelsEnd = sink.knownEnd === undefined ? -1 : sink.knownEnd(bytes, start, end)
  if (labelsEnd < 0) labelsEnd = regionEnd(bytes, start, end)
  if (labelsEnd >= 0 && !hasField1(bytes, labelsEnd, end)) {
    const isWanted = sink.series(bytes, start, labelsEnd)
    if (!isWanted) return skipSamples(walk, labelsEnd, end)
    readSamples(walk, labelsEnd, end)
    sink.seriesEnd()
    return
  }
  seriesRegion.reset()
  gatherLabels(seriesRegion, bytes, start, end)
  countRegion(walk, seriesRegion)
  const isWanted = sink.series(seriesRegion.bytes, 0, seriesRegion.length)
  if (!isWanted) return skipSamples(walk, start, end)
  readSamples(walk, start, end)
  sink.seriesEnd()
}

/** True when labels follow in what should be the rest of a series. */
function hasField1(bytes: Uint8Array, at: number, end: number): boolean {
  if (isOneSample(bytes, at, end)) return false
  while (at < end) {
    const tag = readTag(bytes, at, end)
    if (tag >>> 3 === 1) return true
    at = skipField(tag, bytes, cursor.at, end)
  }
  return false
}

/** Field 2 and nothing else, which is what most series end with. */
function isOneSample(bytes: Uint8Array, at: number, end: number): boolean {
  return at + 1 < end && bytes[at] === 0x12 && at + 2 + bytes[at + 1]! === end && bytes[at + 1]! < 128
}

/** Adds all labels (field 1) of a message to a region. */
function gatherLabels(region: RegionBuilder, bytes: Uint8Array, start: number, end: number): void {
  for (let at = start; at < end; ) {
    const tag = readTag(bytes, at, end)
    if (tag === 0x0a) {
      at = readLength(bytes, cursor.at, end) + cursor.at
      region.addMessage(bytes, cursor.at, at)
    } else {
      if (tag >>> 3 === 1) throw wrongWireType(tag, 'labels')
      at = skipField(tag, bytes, cursor.at, end)
    }
  }
}

/** Tells everything of a series but its labels and 2.0's metadata. */
function readSamples(walk: Walk, start: number, end: number): void {
  const { bytes, sink, limits, version } = walk
  const histogramField = HISTOGRAM_FIELD[version]
  const exemplarField = EXEMPLAR_FIELD[version]
  for (let at = start; at < end; ) {
    const tag = readTag(bytes, at, end)
    const field = tag >>> 3
    if (field < 2 || field > 4) {
      at = skipField(tag, bytes, cursor.at, end)
      continue
    }
    if ((tag & 7) !== LENGTH) throw wrongWireType(tag, `${field} of a time series`)
    at = readLength(bytes, cursor.at, end) + cursor.at
    if (field === 2) {
      const time = readSample(walk, cursor.at, at)
      if (++walk.sampleCount > limits.samplesMax) throw tooMany('samples', limits.samplesMax)
      sink.float(time, slot, startTime === 0 ? walk.seriesStart : startTime)
    } else if (field === histogramField) {
      const messageStart = cursor.at
      const time = timeOfHistogram(bytes, messageStart, at)
      if (++walk.sampleCount > limits.samplesMax) throw tooMany('samples', limits.samplesMax)
      sink.histogram(time, bytes, messageStart, at, version, startTime === 0 ? walk.seriesStart : startTime)
    } else if (field === exemplarField) {
      const time = readExemplar(walk, cursor.at, at)
      if (++walk.exemplarCount > limits.exemplarsMax) throw tooMany('exemplars', limits.exemplarsMax)
      if (exemplarFault === undefined) sink.exemplar(time, slot, exemplarRegion.bytes, 0, exemplarRegion.length)
      else sink.exemplarRefused()
    }
  }
}

/** Counts what a series holds that nobody wants: lengths are followed, contents are not looked at. */
function skipSamples(walk: Walk, start: number, end: number): void {
  const { bytes, sink, limits, version } = walk
  if (isOneSample(bytes, start, end) && walk.sampleCount < limits.samplesMax) {
    walk.sampleCount++
    sink.skipped?.(1, 0, 0)
    return
  }
  const exemplarField = EXEMPLAR_FIELD[version]
  let floats = 0
  let histograms = 0
  let exemplars = 0
  for (let at = start; at < end; ) {
    const tag = readTag(bytes, at, end)
    const field = tag >>> 3
    if (field < 2 || field > 4) {
      at = skipField(tag, bytes, cursor.at, end)
      continue
    }
    if ((tag & 7) !== LENGTH) throw wrongWireType(tag, `${field} of a time series`)
    at = readLength(bytes, cursor.at, end) + cursor.at
    if (field === exemplarField) {
      exemplars++
      if (++walk.exemplarCount > limits.exemplarsMax) throw tooMany('exemplars', limits.exemplarsMax)
      continue
    }
    if (field === 2) floats++
    else histograms++
    if (++walk.sampleCount > limits.samplesMax) throw tooMany('samples', limits.samplesMax)
  }
  sink.skipped?.(floats, histograms, exemplars)
}

/** The start time of the float or histogram read last; 0 when it has none. */
let startTime = 0

/** Puts the value into the slot and returns the time. */
function readSample(walk: Walk, start: number, end: number): number {
  const { bytes, view } = walk
  startTime = 0
  if (end - start === 16 && bytes[start] === 0x09 && bytes[start + 9] === 0x10) {
    const time = timeOfSixBytes(bytes, start + 10)
    if (time >= 0) {
      slotWords[0] = view.getInt32(start + 1, true)
      slotWords[1] = view.getInt32(start + 5, true)
      return time
    }
  } else if (end - start === 7 && bytes[start] === 0x10) {
    const time = timeOfSixBytes(bytes, start + 1)
    if (time >= 0) {
      slotWords[0] = 0 // a value of zero is not written
      slotWords[1] = 0
      return time
    }
  }
  return readAnySample(walk, start, end)
}

function readAnySample(walk: Walk, start: number, end: number): number {
  const { bytes } = walk
  let time = 0
  slot[0] = 0
  for (let at = start; at < end; ) {
    const tag = readTag(bytes, at, end)
    if (tag >>> 3 === 1) {
      at = readValue(walk, tag, cursor.at, end)
    } else if (tag >>> 3 === 2 || (tag >>> 3 === 3 && walk.version === 2)) {
      if ((tag & 7) !== VARINT) throw wrongWireType(tag, 'timestamp of a sample')
      const number = readInt64(bytes, cursor.at, end)
      at = cursor.at
      if (tag >>> 3 === 2) time = number
      else startTime = number
    } else at = skipField(tag, bytes, cursor.at, end)
  }
  return time
}

/** Puts a double field into the slot, bits preserved. */
function readValue(walk: Walk, tag: number, at: number, end: number): number {
  if ((tag & 7) !== FIXED64) throw wrongWireType(tag, 'value')
  if (at + 8 > end) throw truncated()
  slotWords[0] = walk.view.getInt32(at, true)
  slotWords[1] = walk.view.getInt32(at + 4, true)
  return at + 8
}

/** A varint of exactly six bytes, which is what times of our days in milliseconds are; −1 when it is something else. */
function timeOfSixBytes(bytes: Uint8Array, at: number): number {
  const b0 = bytes[at]!
  const b1 = bytes[at + 1]!
  const b2 = bytes[at + 2]!
  const b3 = bytes[at + 3]!
  const b4 = bytes[at + 4]!
  const b5 = bytes[at + 5]!
  if ((b0 & b1 & b2 & b3 & b4) < 128 || b5 > 127) return -1
  const low = (b0 & 127) | ((b1 & 127) << 7) | ((b2 & 127) << 14) | ((b3 & 127) << 21)
  return ((b4 & 127) | (b5 << 7)) * 0x10000000 + low
}

/** The times of a Histogram message (fields 15 and 17), whose other fields are only stepped over. */
function timeOfHistogram(bytes: Uint8Array, start: number, end: number): number {
  let time = 0
  startTime = 0
  for (let at = start; at < end; ) {
    const tag = readTag(bytes, at, end)
    if (tag === 0x78) {
      time = readInt64(bytes, cursor.at, end)
      at = cursor.at
    } else if (tag === 0x88) {
      startTime = readInt64(bytes, cursor.at, end)
      at = cursor.at
    } else {
      if (tag >>> 3 === 15) throw wrongWireType(tag, 'timestamp of a histogram')
      at = skipField(tag, bytes, cursor.at, end)
    }
  }
  return time
}

/** Why the exemplar read last cannot be told (REMOTE-5). */
let exemplarFault: string | undefined

/** Puts the value into the slot and the labels into exemplarRegion, and returns the time. */
function readExemplar(walk: Walk, start: number, end: number): number {
  const { bytes } = walk
  let time = 0
  exemplarRegion.reset()
  exemplarFault = undefined
  if (walk.version === 2) {
    gatherRefs(bytes, start, end)
    exemplarFault = addReferred(exemplarRegion, walk)
  } else gatherLabels(exemplarRegion, bytes, start, end)
  countRegion(walk, exemplarRegion)
  slot[0] = 0
  for (let at = start; at < end; ) {
    const tag = readTag(bytes, at, end)
    if (tag >>> 3 === 2) at = readValue(walk, tag, cursor.at, end)
    else if (tag >>> 3 === 3) {
      if ((tag & 7) !== VARINT) throw wrongWireType(tag, 'timestamp of an exemplar')
      time = readInt64(bytes, cursor.at, end)
      at = cursor.at
    } else at = skipField(tag, bytes, cursor.at, end)
  }
  return time
}

function readMetadataV1(walk: Walk, start: number, end: number): void {
  const { bytes, sink, limits } = walk
  if (++walk.metadataCount > limits.metadataMax) throw tooMany('metadata', limits.metadataMax)
  const texts = ['', '', '', '', '', '']
  let type = 0
  for (let at = start; at < end; ) {
    const tag = readTag(bytes, at, end)
    const field = tag >>> 3
    if (field === 1) {
      if ((tag & 7) !== VARINT) throw wrongWireType(tag, 'type of metadata')
      type = readUvarint(bytes, cursor.at, end)
      at = cursor.at
    } else if (field === 2 || field === 4 || field === 5) {
      if ((tag & 7) !== LENGTH) throw wrongWireType(tag, `${field} of metadata`)
      at = readLength(bytes, cursor.at, end) + cursor.at
      texts[field] = decodeUtf8Leniently(bytes, cursor.at, at)
    } else at = skipField(tag, bytes, cursor.at, end)
  }
  sink.metadata(texts[2]!, METRIC_TYPES[type] ?? 'unknown', texts[4]!, texts[5]!)
}

// ---- 2.0 ----

/** Where the symbols of the request being read lie, and how many there are. */
let symbolStarts = new Uint32Array(1024)
let symbolEnds = new Uint32Array(1024)
let symbolCount = 0

/** References of the series or exemplar being read. */
let refs = new Uint32Array(64)
let refCount = 0

/** Metadata told in this request, by the reference of the name: it comes with every series, and once is enough. */
const metadataTold = new Map<number, number>()

/** Type, help and unit of the metadata read last. */
const metadata = { type: 0, help: 0, unit: 0 }

/** Notes all symbols and returns the position of the first series, from where the rest is read. */
function readSymbols(walk: Walk): number {
  const { bytes, limits } = walk
  const end = bytes.length
  let firstSeries = end
  symbolCount = 0
  for (let at = 0; at < end; ) {
    const tag = readTag(bytes, at, end)
    if (tag === 0x22) {
      const next = readLength(bytes, cursor.at, end) + cursor.at
      if (symbolCount === limits.symbolsMax) throw tooMany('symbols', limits.symbolsMax)
      if (symbolCount === symbolStarts.length) {
        symbolStarts = doubled(symbolStarts)
        symbolEnds = doubled(symbolEnds)
      }
      symbolStarts[symbolCount] = cursor.at
      symbolEnds[symbolCount++] = next
      at = next
      continue
    }
    if (tag >>> 3 === 4 || (tag >>> 3 === 5 && tag !== 0x2a)) {
      throw wrongWireType(tag, tag >>> 3 === 4 ? 'symbols' : 'timeseries')
    }
    if (tag === 0x2a && firstSeries === end) firstSeries = at
    at = skipField(tag, bytes, cursor.at, end)
  }
  if (symbolCount > 0 && symbolStarts[0] === symbolEnds[0]) return firstSeries
  throw malformed('symbols must start with an empty string')
}

function readSeriesV2(walk: Walk, start: number, end: number): void {
  const { bytes, sink, limits } = walk
  if (++walk.seriesCount > limits.seriesMax) throw tooMany('series', limits.seriesMax)
  const kinds = gatherRefs(bytes, start, end)
  // Prometheus sends exemplars apart from the samples of their series, though the specification asks for a sample in each.
  const isEmpty = (kinds & (HAS_FLOATS | HAS_HISTOGRAMS | HAS_EXEMPLARS)) === 0
  const isUnwanted = !isEmpty && sink.unwanted !== undefined && hasUnwantedRefs(sink.unwanted)
  const hasMetadata = (kinds & HAS_METADATA) !== 0
  if (hasMetadata) readMetadataV2(bytes, start, end)
  if (!isUnwanted) {
    const fault = faultOfSeries(walk, isEmpty, hasMetadata)
    if (fault !== undefined) return refuseSeries(walk, start, end, fault)
  }
  const nameRef = isUnwanted || !hasMetadata ? -1 : metricNameRef(bytes)
  const isOfFamily = nameRef >= 0 && (kinds & HAS_HISTOGRAMS) === 0 && !hasLabelRef(bytes, 'quantile')
  walk.seriesStart = (kinds & HAS_START) === 0 ? 0 : createdTime(bytes, start, end)
  const isWanted = !isUnwanted && sink.series(seriesRegion.bytes, 0, seriesRegion.length)
  if (isWanted) readSamples(walk, start, end)
  else skipSamples(walk, start, end)
  if (!isWanted && !isUnwanted && sink.unwanted !== undefined) noteUnwantedRefs(walk, sink.unwanted)
  if (isWanted && nameRef >= 0) tellMetadata(walk, nameRef, isOfFamily)
  if (isWanted) sink.seriesEnd()
}

/** Why a series cannot be told (REMOTE-5); else its labels are in seriesRegion. */
function faultOfSeries(walk: Walk, isEmpty: boolean, hasMetadata: boolean): SeriesFault | undefined {
  seriesRegion.reset()
  const text = addReferred(seriesRegion, walk)
  if (text !== undefined) return { kind: 'references', text }
  countRegion(walk, seriesRegion)
  if (isEmpty) {
    return {
      kind: 'no-samples',
      text: `TimeSeries must contain at least one sample or histogram for series ${toldSeries()}`,
    }
  }
  if (!hasMetadata) return undefined
  const { help, unit } = metadata
  if (Math.max(help, unit) < symbolCount) return undefined
  const [name, ref] = help >= symbolCount ? ['help_ref', help] : ['unit_ref', unit]
  return { kind: 'references', text: `metadata ${name} ${ref} outside of symbols table (size ${symbolCount})` }
}

/** Tells why, and how many samples the series held. */
function refuseSeries({ bytes, sink }: Walk, start: number, end: number, fault: SeriesFault): void {
  let samples = 0
  for (let at = start; at < end; ) {
    const tag = readTag(bytes, at, end)
    if (tag >>> 3 === 2 || tag >>> 3 === 3) samples++
    at = skipField(tag, bytes, cursor.at, end)
  }
  sink.refused(fault, samples)
}

/** Under which symbols the unwanted labels were last found: name and value of each. Of the request being read, by `unwantedFor`. */
let unwantedFor: UnwantedLabels | undefined
const unwantedRefs = new Int32Array(4)

/** Looks among the references of the series just told for the labels that made it unwanted. */
function noteUnwantedRefs({ bytes }: Walk, unwanted: UnwantedLabels): void {
  if (unwanted === unwantedFor) return
  unwantedRefs.fill(-1)
  for (let i = 0; i < refCount; i += 2) {
    const name = refs[i]!
    const value = refs[i + 1]!
    exemplarRegion.reset()
    exemplarRegion.add(bytes, symbolStarts[name]!, symbolEnds[name]!, symbolStarts[value]!, symbolEnds[value]!)
    for (const [at, sought] of [unwanted.first, unwanted.second].entries()) {
      if (Buffer.compare(exemplarRegion.bytes.subarray(0, exemplarRegion.length), sought.region) !== 0) continue
      unwantedRefs[2 * at] = name
      unwantedRefs[2 * at + 1] = value
    }
  }
  unwantedFor = unwantedRefs.includes(-1) ? undefined : unwanted
}

/** Whether both stand among `refs`, under the symbols that they had before; under others a series is told, and they are noted anew. */
function hasUnwantedRefs(unwanted: UnwantedLabels): boolean {
  if (unwanted !== unwantedFor || refCount % 2 !== 0) return false
  let found = 0
  for (let i = 0; i < refCount && found < 4; i += 2) {
    if (refs[i] === unwantedRefs[found] && refs[i + 1] === unwantedRefs[found + 1]) found += 2
  }
  return found === 4
}

const HAS_FLOATS = 1
const HAS_HISTOGRAMS = 2
const HAS_METADATA = 4
const HAS_START = 8
const HAS_EXEMPLARS = 16

/** Gathers the label references (field 1, packed or not) and returns which of the fields 2, 3, 5 and 6 are there. */
function gatherRefs(bytes: Uint8Array, start: number, end: number): number {
  let kinds = 0
  refCount = 0
  for (let at = start; at < end; ) {
    const tag = readTag(bytes, at, end)
    if (tag === 0x0a) {
      const next = readLength(bytes, cursor.at, end) + cursor.at
      at = cursor.at
      while (refs.length < refCount + next - at) refs = doubled(refs)
      while (at < next) {
        const byte = bytes[at]!
        if (byte < 128) {
          refs[refCount++] = byte
          at++
          continue
        }
        pushRef(readUvarint(bytes, at, next))
        at = cursor.at
      }
    } else if (tag === 0x08) {
      pushRef(readUvarint(bytes, cursor.at, end))
      at = cursor.at
    } else {
      const field = tag >>> 3
      if (field === 1) throw wrongWireType(tag, 'labels_refs')
      if (field === 2) kinds |= HAS_FLOATS
      else if (field === 3) kinds |= HAS_HISTOGRAMS
      else if (field === 4) kinds |= HAS_EXEMPLARS
      else if (field === 5) kinds |= HAS_METADATA
      else if (tag === 0x30) kinds |= HAS_START
      at = skipField(tag, bytes, cursor.at, end)
    }
  }
  return kinds
}

/** The created_timestamp of a series (field 6), which 2.0-rc.4 moved into samples and histograms. */
function createdTime(bytes: Uint8Array, start: number, end: number): number {
  let time = 0
  for (let at = start; at < end; ) {
    const tag = readTag(bytes, at, end)
    if (tag === 0x30) {
      time = readInt64(bytes, cursor.at, end)
      at = cursor.at
    } else at = skipField(tag, bytes, cursor.at, end)
  }
  return time
}

function pushRef(ref: number): void {
  if (refCount === refs.length) refs = doubled(refs)
  refs[refCount++] = Math.min(ref, 0xffffffff)
}

/** Adds the labels that `refs` name to a region. What is wrong with them, if anything is. */
function addReferred(region: RegionBuilder, walk: Walk): string | undefined {
  const { bytes, limits } = walk
  if (refCount % 2 !== 0) return `invalid labels_refs length ${refCount}`
  for (let i = 0; i < refCount; i += 2) {
    const name = refs[i]!
    const value = refs[i + 1]!
    if (name >= symbolCount || value >= symbolCount)
      return `labels_refs ${name} (name) = ${value} (value) outside of symbols table (size ${symbolCount})`
    region.add(bytes, symbolStarts[name]!, symbolEnds[name]!, symbolStarts[value]!, symbolEnds[value]!)
    if (region.length > limits.regionBytesMax) throw malformed(`labels exceed ${limits.regionBytesMax} bytes`)
  }
  return undefined
}

/** The symbol that is the value of `__name__` among `refs`; −1 when there is none. */
function metricNameRef(bytes: Uint8Array): number {
  for (let i = 0; i < refCount; i += 2) if (isSymbol(bytes, refs[i]!, '__name__')) return refs[i + 1]!
  return -1
}

function hasLabelRef(bytes: Uint8Array, name: string): boolean {
  for (let i = 0; i < refCount; i += 2) if (isSymbol(bytes, refs[i]!, name)) return true
  return false
}

function isSymbol(bytes: Uint8Array, ref: number, name: string): boolean {
  return symbolEnds[ref]! - symbolStarts[ref]! === name.length && symbolText(bytes, ref) === name
}

/** Metadata (field 5) of a series, into `metadata`. */
function readMetadataV2(bytes: Uint8Array, start: number, end: number): void {
  metadata.type = 0
  metadata.help = 0
  metadata.unit = 0
  for (let at = start; at < end; ) {
    const tag = readTag(bytes, at, end)
    if (tag >>> 3 !== 5) {
      at = skipField(tag, bytes, cursor.at, end)
      continue
    }
    if (tag !== 0x2a) throw wrongWireType(tag, 'metadata')
    at = readLength(bytes, cursor.at, end) + cursor.at
    readMetadataRefs(bytes, cursor.at, at)
  }
}

/** Tells the metadata read last, of the series being told; with `isOfFamily` it may be one of several of a family, whose name is told. */
function tellMetadata({ bytes, sink }: Walk, nameRef: number, isOfFamily: boolean): void {
  const { type, help, unit } = metadata
  if (type === 0 && help === 0 && unit === 0) return
  const key = (help * 2 ** 24 + unit) * 8 + (type & 7) // symbolsMax keeps this exact
  if (metadataTold.get(nameRef) === key) return
  metadataTold.set(nameRef, key)
  const typeName = METRIC_TYPES[type] ?? 'unknown'
  const name = symbolText(bytes, nameRef)
  sink.metadata(
    isOfFamily ? familyOf(name, typeName) : name,
    typeName,
    symbolText(bytes, help),
    symbolText(bytes, unit),
  )
}

function readMetadataRefs(bytes: Uint8Array, start: number, end: number): void {
  for (let at = start; at < end; ) {
    const tag = readTag(bytes, at, end)
    const field = tag >>> 3
    if (field === 1 || field === 3 || field === 4) {
      if ((tag & 7) !== VARINT) throw wrongWireType(tag, `${field} of metadata`)
      const number = readUvarint(bytes, cursor.at, end)
      at = cursor.at
      if (field === 1) metadata.type = number
      else if (field === 3) metadata.help = number
      else metadata.unit = number
    } else at = skipField(tag, bytes, cursor.at, end)
  }
}

function symbolText(bytes: Uint8Array, ref: number): string {
  return decodeUtf8Leniently(bytes, symbolStarts[ref]!, symbolEnds[ref]!)
}

function countRegion(walk: Walk, region: RegionBuilder): void {
  const { regionBytesMax, regionBytesTotalMax } = walk.limits
  if (region.length > regionBytesMax) throw malformed(`labels exceed ${regionBytesMax} bytes`)
  walk.regionBytes += region.length
  if (walk.regionBytes > regionBytesTotalMax)
    throw malformed(`labels of all series exceed ${regionBytesTotalMax} bytes`)
}

function doubled(list: Uint32Array<ArrayBuffer>): Uint32Array<ArrayBuffer> {
  const next = new Uint32Array(list.length * 2)
  next.set(list)
  return next
}

function tooMany(things: string, max: number): RefusedError {
  return malformed(`request has more than ${max} ${things}`)
}

/** The labels of the series being told, for people. */
function toldSeries(): string {
  const { bytes, length } = seriesRegion
  const texts: string[] = []
  forEachLabel(bytes, 0, length, (nameStart, nameEnd, valueStart, valueEnd) => {
    texts.push(decodeUtf8Leniently(bytes, nameStart, nameEnd), decodeUtf8Leniently(bytes, valueStart, valueEnd))
  })
  const labels = formatLabels(texts)
  return labels.length > 200 ? `${labels.slice(0, 200)}…` : labels
}
