// What goes wrong: a deck of mishaps, shuffled from the seed and dealt one after the other, and shuffled again when it is empty, so that each kind comes
// again and again. Pauses and leaving ingesters go on beside those that follow.
import { appendFileSync, existsSync, renameSync } from 'node:fs'
import { join } from 'node:path'
import { identityOf, isRunning } from '../../services/launcher/process-identity.ts'
import { textOf } from '../../shared/base/errors.ts'
import type { Random } from '../../shared/base/random.ts'
import { deleteSubject } from '../../shared/contracts/deletes.ts'
import { batchSubject, logName, markSubject } from '../../shared/contracts/log.ts'
import { withBus } from '../cluster/check.ts'
import { natsFlags } from '../cluster/nats-place.ts'
import { killEverything, signal } from '../cluster/processes.ts'
import { type Actor, carillon, startActor } from '../cluster/ring.ts'
import { pidOf } from '../cluster/system.ts'
import { eventually, until } from '../waiting.ts'
import { bytesOf, flipBit, type StoredMessage, storedMessages } from './block-file.ts'
import { ingesterArgs, type Stage } from './stage.ts'

const GAP_MS_MAX = 4_000
const PAUSED_MS_MAX = 14_000
const PARTITIONS_MAX = 6
const JOINED_MAX = 2
const BACK_MS_MAX = 180_000
const APPEND_MS_MAX = 10_000
const LEAVE_MS_MAX = 120_000

type Mishap = (random: Random) => Promise<void>

export class Mishaps {
  private readonly stage: Stage
  private readonly joined = new Map<string, Actor>()
  private readonly going = new Set<Promise<void>>()
  /** Bits that a server has not met yet: one that was stopped in peace does not read its files anew. */
  private readonly flipped: Flipped[] = []
  private readonly paused = new Map<number, NodeJS.Timeout>()
  private partitions = 2
  private joinCount = 0

  constructor(stage: Stage) {
    this.stage = stage
  }

  /** Deals until the chaos is over, or a hand that was given. */
  async run(): Promise<void> {
    const random = this.stage.random('mishaps')
    for (const [name, mishap] of this.dealt(random)) {
      if (!this.stage.isChaos) return
      this.stage.trace(`mishap: ${name}`)
      this.stage.count(`mishap ${name}`)
      await mishap(random)
      this.stage.look([...this.joined.values()].flatMap(({ process: { pid } }) => (pid === undefined ? [] : [pid])))
      await this.stage.pause(500 + random.below(GAP_MS_MAX))
    }
  }

  /** Whoever stands goes on; ingesters that came leave. */
  async heal(): Promise<void> {
    for (const pid of this.paused.keys()) this.goOn(pid)
    for (const id of this.joined.keys()) this.leave(id)
    await Promise.all(this.going)
  }

  /** Whatever came of it: nothing of it runs on. */
  async end(): Promise<void> {
    for (const pid of this.paused.keys()) this.goOn(pid)
    for (const id of this.joined.keys()) this.killJoined(id)
    await Promise.all(this.going)
  }

  private *dealt(random: Random): Generator<[string, Mishap]> {
    const { hand, without } = this.stage.options
    const cards = this.cards().filter(([name]) => !without.some((part) => name === part || name.startsWith(`${part}-`)))
    for (const wanted of hand ?? []) {
      const card = cards.find(([name]) => name === wanted)
      if (card === undefined) throw new Error(`there is no mishap ${wanted}`)
      yield card
    }
    while (hand === undefined) yield* shuffled(cards, random)
  }

  private cards(): [string, Mishap][] {
    const roles = ['gateway', 'distributor', 'ingester', 'querier', 'compactor']
    const each = roles.flatMap((role): [string, Mishap][] => [
      [`kill-${role}`, (random) => this.kill(this.oneOf(role, random))],
      [`pause-${role}`, (random) => this.halt(this.oneOf(role, random), random)],
    ])
    return [
      ...each,
      ['kill-ingester', (random) => this.kill(this.oneOf('ingester', random))],
      ['kill-ingesters', () => this.killIngesters()],
      ['kill-nats', (random) => this.kill(this.server(random))],
      ['pause-nats', (random) => this.halt(this.server(random), random)],
      ['kill-all', () => this.killEverything()],
      ['restart', () => this.restart()],
      ['join', async () => this.join()],
      ['join', async () => this.join()],
      ['leave', async () => this.leave([...this.joined.keys()][0])],
      ['leave-killed', async () => this.killJoined([...this.joined.keys()][0])],
      ['add', () => this.addPartition()],
      ['junk', (random) => this.junk(random)],
      ['junk', (random) => this.junk(random)],
      ['flip', (random) => this.flip(random)],
      ['flush', () => this.flush()],
    ]
  }

  // ---- killing and pausing ----

  private oneOf(role: string, random: Random): string {
    const ids = this.stage.system.ready.processes.filter((each) => each.role === role).map(({ id }) => id)
    return ids[random.below(ids.length)]!
  }

  private server(random: Random): string {
    return this.stage.options.servers === 1 ? 'nats' : ['nats-a', 'nats-b', 'nats-c'][random.below(3)]!
  }

  private async kill(id: string): Promise<void> {
    this.stage.trace(`kill -9 of ${id}`)
    signal(await this.pid(id), 'SIGKILL')
    if (id === 'nats' || id.startsWith('nats-')) this.isLost()
  }

  private async killIngesters(): Promise<void> {
    for (const { id, role } of this.stage.system.ready.processes) if (role === 'ingester') await this.kill(id)
  }

  private async halt(id: string, random: Random): Promise<void> {
    const pid = await this.pid(id)
    const forMs = 500 + random.below(PAUSED_MS_MAX)
    this.stage.trace(`${id} stands for ${forMs} ms`)
    signal(pid, 'SIGSTOP')
    clearTimeout(this.paused.get(pid))
    this.paused.set(
      pid,
      setTimeout(() => this.goOn(pid), forMs),
    )
  }

  private goOn(pid: number): void {
    clearTimeout(this.paused.get(pid))
    this.paused.delete(pid)
    signal(pid, 'SIGCONT')
  }

  /** One that was killed just now is about to be back. */
  private pid(id: string): Promise<number> {
    return eventually(`${id} runs`, BACK_MS_MAX, () => pidOf(this.stage.system, id))
  }

  private async killEverything(): Promise<void> {
    this.stage.look()
    await killEverything(this.stage.system)
    this.isLost()
    await this.startAnew()
  }

  private async restart(): Promise<void> {
    for (const pid of this.paused.keys()) this.goOn(pid)
    this.stage.look()
    await this.stage.system.stop()
    const left = await this.stage.orphans([...this.joined.values()].map(({ process: { pid } }) => pid))
    if (left.length > 0) this.stage.fault(`stopped in peace, and processes ${left.join(' ')} are left`)
    await this.startAnew()
  }

  private async startAnew(): Promise<void> {
    const fromMs = performance.now()
    await this.stage.start()
    this.stage.trace(`ready again after ${Math.round(performance.now() - fromMs)} ms`)
  }

  // ---- ingesters that come and go, partitions that are added ----

  private join(): void {
    if (this.joined.size >= JOINED_MAX) return
    const id = `ingester-joins-${++this.joinCount}`
    const { servers } = this.stage.options
    const zone = servers === 3 ? ['--zone=a'] : []
    const actor = startActor('ingester', { nats: this.stage.system.ready, id, args: [...ingesterArgs, ...zone] })
    this.joined.set(id, actor)
    actor.process.stderr!.on('data', (text) => appendFileSync(join(this.stage.options.folder, 'processes.log'), text))
    actor.process.once('exit', (code, name) => {
      if (!this.joined.delete(id)) return
      this.stage.fault(`${id} ended by itself with ${code ?? name}`)
    })
    this.stage.trace(`${id} comes`)
  }

  private leave(id: string | undefined): void {
    const actor = id === undefined ? undefined : this.joined.get(id)
    if (id === undefined || actor === undefined) return
    this.joined.delete(id)
    this.stage.trace(`${id} is told to leave`)
    const leaving = this.leaving(id, actor).finally(() => this.going.delete(leaving))
    this.going.add(leaving)
  }

  private async leaving(id: string, actor: Actor): Promise<void> {
    const late = setTimeout(() => {
      this.stage.fault(`${id} was told to leave, and runs ${LEAVE_MS_MAX} ms later`)
      actor.process.kill('SIGKILL')
    }, LEAVE_MS_MAX)
    try {
      await actor.stop()
      this.stage.trace(`${id} has left`)
    } catch (error) {
      this.stage.fault(textOf(error))
    } finally {
      clearTimeout(late)
    }
  }

  private killJoined(id: string | undefined): void {
    const actor = id === undefined ? undefined : this.joined.get(id)
    if (id === undefined || actor === undefined) return
    this.joined.delete(id)
    this.stage.trace(`kill -9 of ${id}`)
    actor.process.kill('SIGKILL')
  }

  private async addPartition(): Promise<void> {
    if (this.partitions >= PARTITIONS_MAX) return
    const { code, err } = await carillon(['partitions', 'add', '1', ...natsFlags(this.stage.system.ready)])
    this.stage.trace(`partitions add ended with ${code} ${err.slice(-300)}`)
    if (code === 0) this.partitions++
  }

  private async flush(): Promise<void> {
    const response = await fetch(`${this.stage.url()}/api/v1/admin/flush?wait=5s`, { method: 'POST' }).catch(
      () => undefined,
    ) // a gateway that is killed or stands
    this.stage.trace(`a flush by hand is answered ${response?.status}`)
  }

  // ---- damage ----

  /** Bytes that nobody can read, where batches, marks and fences stand. */
  private async junk(random: Random): Promise<void> {
    const partition = random.below(this.partitions)
    const subjects = [batchSubject(partition), markSubject(partition), deleteSubject(partition, 'junk')]
    const subject = subjects[random.below(subjects.length)]!
    const bytes = random.bytes(random.below(400))
    this.stage.harm.isThere = true // answers may warn, of nothing that is missing
    const { ready } = this.stage.system
    try {
      const options = { timeoutMs: APPEND_MS_MAX }
      const { seq } = await withBus(ready, (bus) => bus.logs.append(logName(partition), subject, bytes, options))
      this.stage.trace(`junk at ${seq} of partition ${partition}, as ${subject}`)
    } catch (error) {
      this.stage.trace(`junk could not be published: ${textOf(error)}`)
    }
  }

  /** Stops a server, flips one bit of a message on its disk, and lets it come back. */
  private async flip(random: Random): Promise<void> {
    const id = this.server(random)
    const partition = random.below(this.partitions)
    const folder = join(this.stage.dataDir, 'nats', id === 'nats' ? '' : id.slice('nats-'.length))
    const config = join(folder, 'server.conf')
    const server = identityOf(await this.pid(id))
    const isKilled = random.next() < 0.5
    renameSync(config, `${config}.off`)
    try {
      if (server !== undefined) {
        this.goOn(server.pid)
        signal(server.pid, isKilled ? 'SIGKILL' : 'SIGTERM')
        await until(`${id} is gone`, () => !isRunning(server))
      }
      const flipped = this.flipIn(join(folder, 'nats-store'), partition, random)
      if (flipped !== undefined && !isKilled) this.flipped.push(flipped)
    } finally {
      if (existsSync(`${config}.off`)) renameSync(`${config}.off`, config)
    }
    await this.pid(id)
  }

  /** A server that was killed reads its files anew: what came since behind a flipped bit is lost with it. */
  private isLost(): void {
    const standing = this.flipped.splice(0).filter(({ hit, bytes }) => bytesOf(hit).equals(bytes))
    for (const { store, partition, hit } of standing)
      this.stage.harm.add(partition, messagesOf(store, partition), hit.seq)
  }

  private flipIn(store: string, partition: number, random: Random): Flipped | undefined {
    const messages = messagesOf(store, partition)
    if (messages.length === 0) {
      this.stage.fault(`the files of log ${partition} hold no message, not even a mark`)
      return undefined
    }
    const hit = messages[random.below(messages.length)]!
    flipBit(hit, random)
    this.stage.harm.add(partition, messages, hit.seq)
    this.stage.trace(
      `a bit is flipped in ${hit.seq} of partition ${partition}, ${hit.subject}; it holds ${messages[0]!.seq} to ${messages.at(-1)!.seq}`,
    )
    return { store, partition, hit, bytes: bytesOf(hit) }
  }
}

interface Flipped {
  readonly store: string
  readonly partition: number
  readonly hit: StoredMessage
  readonly bytes: Buffer
}

function messagesOf(store: string, partition: number): StoredMessage[] {
  return storedMessages(store, `cln-${logName(partition)}`).map((message) => {
    return { ...message, subject: message.subject.replace('cln.', '') }
  })
}

function shuffled<T>(all: readonly T[], random: Random): T[] {
  const rest = [...all]
  return Array.from({ length: rest.length }, () => rest.splice(random.below(rest.length), 1)[0]!)
}
