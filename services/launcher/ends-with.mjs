// What was started by a test, a tool, or npm does not outlive it: this process stops, as if told by SIGTERM, when whoever it belongs to is
// gone, however that ended. In plain JavaScript for any Node >= 20: the entry and each process of the test runner load it first.
//
// Invariants
//   END-1  CARILLON_ENDS_WITH names the process that this one belongs to; for whatever this one starts, it is this one. So nobody takes an
//       inherited value for its own, and each link of a chain ends with the link before.
//   END-2  npm tells nobody that it ends, and may have started a shell that did not notice either: under npm, all of them are watched.
//   END-3  What a person or a service manager started belongs to nobody: it runs until it is told to stop.
//   END-4  Whoever speaks into a pipe that nobody reads any more stops as well: often that is all that is left of an owner.
import fs from 'node:fs'

const LOOK_MS = 500
const ENDS_WITH = 'CARILLON_ENDS_WITH'
const parent = process.ppid
const isLinux = process.platform === 'linux'

let isStopping = false
const links = linksUp()
process.env[ENDS_WITH] = String(process.pid) // END-1
if (links.length > 0) {
  const looking = setInterval(() => {
    if (links.every((isThere) => isThere())) return
    clearInterval(looking)
    stop()
  }, LOOK_MS)
  looking.unref()
}
for (const stream of [process.stdout, process.stderr]) {
  stream.on('error', (error) => {
    if (error.code !== 'EPIPE') throw error
    stop() // END-4
  })
}

/** Once: a second signal would say that it is not to take its time. */
function stop() {
  if (isStopping) return
  isStopping = true
  process.kill(process.pid, 'SIGTERM')
}

/** Each answers whether one of those that this process belongs to is still there. */
function linksUp() {
  const owner = Number(process.env[ENDS_WITH] ?? 0)
  if (owner === process.ppid) return [isOurParent]
  const found = owner > 0 ? [() => isAlive(owner)] : []
  return process.env['npm_lifecycle_event'] === undefined ? found : [...found, ...npmAbove()] // END-3
}

/** npm itself, or the shell that it started, and npm. */
function npmAbove() {
  const found = [isOurParent]
  for (let shell = process.ppid; isLinux && isShell(shell); ) {
    const [child, parent] = [shell, parentOf(shell)]
    found.push(() => parentOf(child) === parent) // END-2
    shell = parent
  }
  return found
}

/** Who loses a parent gets another one at once; on Windows nothing says so. */
function isOurParent() {
  return process.platform === 'win32' ? isAlive(parent) : process.ppid === parent
}

function isAlive(pid) {
  try {
    process.kill(pid, 0)
    return true
  } catch (error) {
    return error.code === 'EPERM'
  }
}

function isShell(pid) {
  return /^(ba|da|a|k|z|fi)?sh$/.test(readOf(pid, 'comm').trim())
}

function parentOf(pid) {
  const stat = readOf(pid, 'stat')
  return Number(stat.slice(stat.lastIndexOf(')') + 2).split(' ')[1]) // the name in parentheses may hold spaces
}

function readOf(pid, file) {
  try {
    return fs.readFileSync(`/proc/${pid}/${file}`, 'utf8')
  } catch (error) {
    if (error.code === 'ENOENT' || error.code === 'ESRCH') return '' // it has ended
    throw error
  }
}
