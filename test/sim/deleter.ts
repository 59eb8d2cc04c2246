// A client that deletes series, and now and then a whole tenant, takes some of it back, and ends windows early.
import { CarillonError, RefusedError } from '../../shared/base/errors.ts'
import type { Random } from '../../shared/base/random.ts'
import { ask } from '../../shared/bus/ask.ts'
import type { Bus } from '../../shared/bus/port.ts'
import * as deletes from '../../shared/contracts/deletes.ts'
import type { Deletion } from './deletion.ts'
import { type Ledger, SERIES_NAMES } from './ledger.ts'
import { type Scene, TENANTS } from './scene.ts'

/** Some askers are patient, some ask again, and of another compactor, while the first still works at it. */
const TIMEOUT_MS_MIN = 300
const TIMEOUT_MS_MAX = 2_500
const TRIES_MAX = 100
const UNDO_OVER = 'err-carillon-undo-over'
const NOT_FOUND = 'err-carillon-not-found'
const UNDONE = 'err-carillon-undone'
const UNDO_CHANCE = 0.45
const HASTY_CHANCE = 0.2
const CLEAN_CHANCE = 0.3
const TENANT_CHANCE = 0.2
const FORSAKEN_CHANCE = 0.5
const ASKED_BY = 'simulation'

export async function deleter(scene: Scene, ledger: Ledger): Promise<void> {
  const { plan } = scene
  const bus = scene.hub.connect('deleter')
  const chance = plan.random('deleter')
  const client = new Client(scene, bus, chance, ledger)
  await scene.sleep(200 + chance.below(700))
  if (!plan.has('deletion-growth')) await scene.until(() => allMarked(scene), scene.chaosMs)
  for (let number = 0; scene.isChaos(); number++) {
    const asked = await drawn(client, scene, chance, number)
    if (asked === undefined) return
    const deletion = ledger.delete({ ...asked.of, asked: scene.moment() })
    if (!(await client.remove(deletion, asked.request))) return
    if (plan.has('clean') && chance.next() < CLEAN_CHANCE) await client.clean(deletion)
    await scene.sleep(100 + chance.below(500))
  }
}

/** A log that has no mark yet takes no batches. */
function allMarked(scene: Scene): boolean {
  for (let partition = 0; scene.hub.log(`log-${partition}`) !== undefined; partition++)
    if (!scene.logs.all(partition).some(({ subject }) => subject.endsWith('.mark'))) return false
  return true
}

async function drawn(client: Client, scene: Scene, chance: Random, number: number) {
  const id = `d${number}`
  const isTenant = scene.plan.has('tenant-deletions') && chance.next() < TENANT_CHANCE
  const tenant = isTenant ? TENANTS[1] : TENANTS[chance.below(TENANTS.length)]!
  const series = isTenant ? undefined : SERIES_NAMES[chance.below(SERIES_NAMES.length)]!
  const asOf = await client.version(tenant)
  if (asOf === undefined) return undefined
  const request: deletes.RemoveRequest = {
    ...{ tenant, asOf, id, kind: isTenant ? 'tenant' : 'series', askedBy: ASKED_BY },
    ...{ startMs: deletes.TIME_MIN_MS, endMs: deletes.TIME_MAX_MS },
    selectors: series === undefined ? [[]] : [[{ name: 'series', operator: '=', value: series }]],
  }
  scene.trace(`deletion ${id} of ${tenant} ${series ?? 'all'} is asked for`)
  return { of: { id, tenant, series }, request }
}

class Client {
  private readonly scene: Scene
  private readonly bus: Bus
  private readonly chance: Random
  private readonly ledger: Ledger

  constructor(scene: Scene, bus: Bus, chance: Random, ledger: Ledger) {
    this.scene = scene
    this.bus = bus
    this.chance = chance
    this.ledger = ledger
  }

  /** What the asker has seen before it asks (DELETE-6). */
  async version(tenant: string): Promise<number | undefined> {
    let version: number | undefined
    const outcome = await this.until(async (options) => {
      version = (await ask(this.bus, deletes.list, {}, { tenant, isBrief: true }, options)).version
    })
    if (outcome !== 'done') this.scene.fault(`deletions of ${tenant} cannot be listed: ${outcome}`)
    return version
  }

  /** Asked for until it is answered, and perhaps taken back; false when something is wrong. */
  async remove(first: Deletion, request: deletes.RemoveRequest): Promise<boolean> {
    const { scene, chance } = this
    const { id } = first
    const isForsaken = scene.plan.has('forsaken') && chance.next() < FORSAKEN_CHANCE
    const isHasty = !isForsaken && scene.plan.has('undo') && chance.next() < HASTY_CHANCE
    if (isForsaken || isHasty) {
      const once = ask(this.bus, deletes.remove, {}, request, this.patience()).catch(() => undefined)
      await Promise.race([once, scene.sleep(chance.below(TIMEOUT_MS_MIN))])
      if (isForsaken) scene.trace(`whoever asked for ${id} is gone`)
      if (isForsaken) return true
      if (await this.undo(first)) return true
    }
    let deletion = first
    const outcome = await this.until(async (options, tries) => {
      if (tries > 0 && scene.plan.has('nameless')) {
        deletion = this.ledger.delete({ ...first, id: `${id}t${tries}`, asked: scene.moment() })
        scene.trace(`${id} is asked for as ${deletion.id}`)
      }
      const again =
        tries > 0 && (await ask(this.bus, deletes.list, {}, { tenant: first.tenant, isBrief: true }, options))
      const asOf = again ? again.version : request.asOf
      await ask(this.bus, deletes.remove, {}, { ...request, asOf, id: deletion.id }, options)
    })
    scene.trace(`deletion ${id} is answered: ${outcome}`)
    if (outcome === UNDONE && isHasty) return true // by a try that was answered otherwise
    if (outcome !== 'done') scene.fault(`deletion ${id} was never answered: ${outcome}`)
    if (outcome !== 'done') return false
    this.ledger.answer(deletion, scene.moment())
    scene.count('deletions')
    if (!isHasty && scene.plan.has('undo') && chance.next() < UNDO_CHANCE) {
      await scene.sleep(chance.below(900))
      await this.undo(deletion)
    }
    return true
  }

  /** Whether it was taken back. */
  private async undo(deletion: Deletion): Promise<boolean> {
    const { scene } = this
    const { id, tenant } = deletion
    deletion.askUndo(scene.moment())
    scene.trace(`deletion ${id} is taken back`)
    const asked = { tenant, id, askedBy: ASKED_BY }
    const outcome = await this.until((options) => ask(this.bus, deletes.undo, {}, asked, options))
    scene.trace(`taking back ${id} is answered: ${outcome}`)
    const mayBeUnknown = outcome === NOT_FOUND && !deletion.isAnswered // no verdict: the asking for it may still be under way
    if (outcome !== 'done' && outcome !== UNDO_OVER && !mayBeUnknown)
      scene.fault(`taking back ${id} was never answered: ${outcome}`)
    if (!mayBeUnknown) deletion.answerUndo(scene.moment(), outcome === 'done')
    if (outcome === 'done') scene.count('undone')
    return outcome === 'done'
  }

  async clean({ tenant }: Deletion): Promise<void> {
    const asked = { tenant, askedBy: ASKED_BY }
    const outcome = await this.until((options) => ask(this.bus, deletes.clean, {}, asked, options))
    if (outcome !== 'done') this.scene.fault(`windows of ${tenant} cannot be ended: ${outcome}`)
  }

  private patience(): { timeoutMs: number } {
    return { timeoutMs: TIMEOUT_MS_MIN + this.chance.below(TIMEOUT_MS_MAX - TIMEOUT_MS_MIN) }
  }

  /** `done`, the code of a refusal, or why the last try failed. */
  private async until(call: (options: { timeoutMs: number }, tries: number) => Promise<unknown>): Promise<string> {
    let last = ''
    for (let tries = 0; tries < TRIES_MAX; tries++) {
      try {
        await call(this.patience(), tries)
        return 'done'
      } catch (error) {
        if (!(error instanceof CarillonError)) throw error
        last = error.code
        if (error instanceof RefusedError) return last
        await this.scene.sleep(50 + 20 * tries)
      }
    }
    return last
  }
}
