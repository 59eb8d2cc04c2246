// A bus of which one part behaves as the whole never would: for tests that break an outer wall to see whether the inner one holds.
import type { Bus, KvBucket, KvEntry, LogMessage, LogStore } from '../shared/bus/port.ts'

/** The bus with buckets as `alter` makes them of the real ones. */
export function withBuckets(bus: Bus, alter: (bucket: KvBucket, name: string) => Partial<KvBucket>): Bus {
  const bucket: Bus['bucket'] = async (name, options) => {
    const inner = await bus.bucket(name, options)
    return altered(inner, alter(inner, name))
  }
  return altered(bus, { bucket })
}

/** The bus with logs as `alter` makes them of the real ones. */
export function withLogs(bus: Bus, alter: (logs: LogStore) => Partial<LogStore>): Bus {
  return altered(bus, { logs: altered(bus.logs, alter(bus.logs)) })
}

/** The bus whose logs deliver a message only after `before`. */
export function withDelivery(bus: Bus, before: (message: LogMessage) => Promise<void>): Bus {
  return withLogs(bus, (logs) => ({
    consume: (log, from, onMessage, onError) =>
      logs.consume(log, from, async (message) => before(message).then(() => onMessage(message)), onError),
  }))
}

/** The bus whose buckets tell what they were asked to watch only after `before`, in the order of the changes. */
export function withLateWatches(bus: Bus, before: (entry: KvEntry) => Promise<void>): Bus {
  return withBuckets(bus, (bucket) => ({
    watch(filter, onEntry, onReady, onSettled) {
      let told = Promise.resolve()
      const later = (tell: () => void, waited: Promise<void> = Promise.resolve()) => {
        told = told.then(() => waited).then(tell)
      }
      return bucket.watch(
        filter,
        (entry) => later(() => onEntry(entry), before(entry)),
        () => later(onReady),
        () => later(() => onSettled?.()),
      )
    },
  }))
}

/** The object with some of its members replaced. */
function altered<T extends object>(inner: T, changed: Partial<T>): T {
  return new Proxy(inner, {
    get(target, key) {
      const own = Reflect.get(changed, key) as unknown
      if (own !== undefined) return own
      const value = Reflect.get(target, key) as unknown
      return typeof value === 'function' ? value.bind(target) : value
    },
  })
}
