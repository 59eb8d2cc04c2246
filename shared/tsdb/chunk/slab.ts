// Slabs: blocks of chunk bytes cut from shared pages, so that a chunk costs no object of the garbage collector.
//
// Invariants
//   SLAB-1  An address is page << 16 | offset / 16; a block never spans pages and lies on 16 bytes.
//   SLAB-2  A block's size is that of its class; a freed block serves its class again. A page whose blocks are all free is given back.
//   SLAB-3  A block larger than the largest class has a page of its own, which goes with it.
import { assert } from '../../base/assert.ts'

const PAGE_BYTES_MIN = 4096
const PAGE_BYTES_MAX = 1 << 20
const CLASS_BYTES = [
  16, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024, 1536, 2048, 3072, 4096, 6144, 8192, 12288, 16384, 24576,
  32768, 49152, 65536,
]
const CLASS_BYTES_MAX = 65536
/** The class of blocks with a page of their own. */
const CLASS_OWN_PAGE = CLASS_BYTES.length

const classOfUnits = new Uint8Array(CLASS_BYTES_MAX / 16 + 1)
for (let units = 0, c = 0; units < classOfUnits.length; units++) {
  if (units * 16 > CLASS_BYTES[c]!) c++
  classOfUnits[units] = c
}

export class Slab {
  /** SLAB-1: the page of an address is `pages[address >>> 16]`, its offset `(address & 0xffff) << 4`. */
  readonly pages: Uint8Array<ArrayBuffer>[] = []
  /** The same pages as floats and as words, for blocks that hold columns. */
  readonly pageFloats: Float64Array<ArrayBuffer>[] = []
  readonly pageWords: Uint32Array<ArrayBuffer>[] = []
  private readonly pageBytesUsed: number[] = []
  private readonly freePages: number[] = []
  private readonly free: Uint32Array[] = CLASS_BYTES.map(() => new Uint32Array(0))
  private readonly freeCount = new Uint32Array(CLASS_BYTES.length)
  private openPage = -1
  private openOffset = 0
  pageBytes = 0
  usedBytes = 0

  classOf(bytes: number): number {
    return bytes > CLASS_BYTES_MAX ? CLASS_OWN_PAGE : classOfUnits[(bytes + 15) >>> 4]! // SLAB-2
  }

  /** The room in a block of a class; a block with its own page has what its page has. */
  roomOf(address: number, sizeClass: number): number {
    return sizeClass === CLASS_OWN_PAGE ? this.pages[address >>> 16]!.length : CLASS_BYTES[sizeClass]!
  }

  /** The address of a block with at least `bytes` of room, of class `classOf(bytes)`. */
  allocate(bytes: number): number {
    const sizeClass = this.classOf(bytes)
    if (sizeClass === CLASS_OWN_PAGE) return this.allocatePage(bytes) // SLAB-3
    const room = CLASS_BYTES[sizeClass]!
    this.usedBytes += room
    const left = this.freeCount[sizeClass]!
    let address: number
    if (left > 0) {
      this.freeCount[sizeClass] = left - 1
      address = this.free[sizeClass]![left - 1]!
    } else {
      address = this.cut(room)
    }
    const page = address >>> 16
    this.pageBytesUsed[page] = this.pageBytesUsed[page]! + room
    return address
  }

  release(address: number, sizeClass: number): void {
    const page = address >>> 16
    if (sizeClass === CLASS_OWN_PAGE) {
      this.usedBytes -= this.pages[page]!.length
      this.dropPage(page)
      return
    }
    this.usedBytes -= CLASS_BYTES[sizeClass]!
    this.pageBytesUsed[page] = this.pageBytesUsed[page]! - CLASS_BYTES[sizeClass]!
    this.pushFree(sizeClass, address)
  }

  /** Gives back the pages without a block in use; called after many blocks were released at once. */
  trim(): void {
    const isEmpty = this.pages.map((page, i) => page.length > 0 && this.pageBytesUsed[i] === 0)
    if (!isEmpty.includes(true)) return
    for (let c = 0; c < CLASS_BYTES.length; c++) {
      const list = this.free[c]!
      let kept = 0
      for (let i = 0; i < this.freeCount[c]!; i++) {
        const address = list[i]!
        if (!isEmpty[address >>> 16]) list[kept++] = address
      }
      this.freeCount[c] = kept
      this.free[c] = list.slice(0, kept)
    }
    isEmpty.forEach((empty, page) => {
      if (empty) this.dropPage(page)
    })
  }

  /** What the slab itself takes, free blocks included. */
  get bytes(): number {
    let bytes = this.pageBytes
    for (const list of this.free) bytes += list.byteLength
    return bytes
  }

  private cut(room: number): number {
    const page = this.openPage
    if (page < 0 || this.openOffset + room > this.pages[page]!.length) return this.cutFromNew(room)
    const address = page * 65536 + (this.openOffset >>> 4)
    this.openOffset += room
    return address
  }

  private cutFromNew(room: number): number {
    this.carveRest()
    const wanted = Math.min(PAGE_BYTES_MAX, Math.max(PAGE_BYTES_MIN, this.pageBytes >>> 2, room))
    const bytes = Math.ceil(wanted / 4096) * 4096
    this.openPage = this.addPage(bytes)
    this.openOffset = room
    return this.openPage * 65536
  }

  /** What is left of the open page becomes free blocks, the largest first. */
  private carveRest(): void {
    if (this.openPage < 0) return
    const end = this.pages[this.openPage]!.length
    for (let c = CLASS_BYTES.length - 1; c >= 0; c--) {
      while (this.openOffset + CLASS_BYTES[c]! <= end) {
        this.pushFree(c, this.openPage * 65536 + (this.openOffset >>> 4))
        this.openOffset += CLASS_BYTES[c]!
      }
    }
  }

  private allocatePage(bytes: number): number {
    const page = this.addPage(Math.ceil(bytes / 16) * 16)
    this.usedBytes += this.pages[page]!.length
    this.pageBytesUsed[page] = this.pages[page]!.length
    return page * 65536
  }

  private addPage(bytes: number): number {
    const page = this.freePages.pop() ?? this.pages.length
    assert(page < 65536, 'a slab has at most 65536 pages')
    const buffer = new ArrayBuffer(bytes)
    this.pages[page] = new Uint8Array(buffer)
    this.pageFloats[page] = new Float64Array(buffer)
    this.pageWords[page] = new Uint32Array(buffer)
    this.pageBytesUsed[page] = 0
    this.pageBytes += bytes
    return page
  }

  private dropPage(page: number): void {
    this.pageBytes -= this.pages[page]!.length
    this.pages[page] = new Uint8Array(0)
    this.pageFloats[page] = new Float64Array(0)
    this.pageWords[page] = new Uint32Array(0)
    this.pageBytesUsed[page] = 0
    this.freePages.push(page)
    if (page === this.openPage) this.openPage = -1
  }

  private pushFree(sizeClass: number, address: number): void {
    const count = this.freeCount[sizeClass]!
    let list = this.free[sizeClass]!
    if (count === list.length) {
      const wider = new Uint32Array(Math.max(16, Math.ceil(count * 1.5)))
      wider.set(list)
      list = this.free[sizeClass] = wider
    }
    list[count] = address
    this.freeCount[sizeClass] = count + 1
  }
}
