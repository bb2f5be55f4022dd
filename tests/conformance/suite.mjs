// Runs the public cache test suite and holds its results against what is recorded here.
//
//   node suite.mjs SUITE BINARY [--id ID] [--record] [--base URL --origin PORT]
//
// SUITE is the unpacked npm package http-cache-tests. Its server is the app; its client talks to BINARY in between. A test
// that must pass and does not, one that is excepted and passes, and a check that answers differently than recorded are
// errors: then this exits with 1.

import { spawn } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { fileURLToPath, pathToFileURL } from 'node:url'
import { parseArgs } from 'node:util'

const { values: options, positionals: [suite, binary] } = parseArgs({
  allowPositionals: true,
  options: {
    id: { type: 'string' },
    record: { type: 'boolean', default: false },
    base: { type: 'string' },
    origin: { type: 'string' }
  }
})
const here = dirname(fileURLToPath(import.meta.url))
const load = path => import(pathToFileURL(join(suite, path)))
const read = name => JSON.parse(readFileSync(join(here, name), 'utf8'))

// Surrogate-Control is left out: RFC 9213 has taken its place, and the suite's own source has dropped it.
const { default: suites } = await load('tests/index.mjs')
const tests = suites.flatMap(({ tests }) => tests).filter(test => test.browser_only !== true)
const kindOf = test => test.kind ?? 'required'

const children = []
const scratch = mkdtempSync(join(tmpdir(), 'conformance-'))
process.on('exit', () => {
  children.forEach(child => child.kill('SIGKILL'))
  rmSync(scratch, { recursive: true, force: true })
})

process.exitCode = await main()
process.exit()

async function main () {
  const base = options.base ?? await start()
  if (options.base !== undefined) await startOrigin(Number(options.origin))
  const results = await run(base)
  if (options.id !== undefined) {
    const result = results[options.id]
    console.log(result === true ? 'passed' : result?.join(': ') ?? `there is no test ${options.id}`)
    return result === true ? 0 : 1
  }
  const complaints = options.base === undefined ? compare(results) : []
  table(results)
  complaints.forEach(complaint => console.error(complaint))
  return complaints.length === 0 ? 0 : 1
}

async function run (base) {
  const { runTests, getResults } = await load('client/runner.mjs')
  const wanted = options.id === undefined
    ? suites
    : suites.map(all => ({ ...all, tests: all.tests.filter(test => test.id === options.id) }))
  if (options.id !== undefined) wanted.forEach(({ tests }) => tests.forEach(test => { test.dump = true }))
  await runTests(wanted, fetch, false, base)
  return getResults()
}

// The app and the proxy before it; gives the proxy's URL.
async function start () {
  const [origin, listen, admin] = await Promise.all([freePort(), freePort(), freePort()])
  await startOrigin(origin)
  const config = join(scratch, 'proxy.toml')
  const template = readFileSync(join(here, 'proxy.toml'), 'utf8')
  writeFileSync(config, template.replace('ORIGIN', origin).replace('LISTEN', listen).replace('ADMIN', admin))
  children.push(spawn(binary, ['run', '--config', config], { stdio: ['ignore', 'ignore', 'ignore'] }))
  const base = `http://127.0.0.1:${listen}`
  await answers(`${base}/`)
  return base
}

async function startOrigin (port) {
  const env = {
    ...process.env,
    npm_config_protocol: 'http',
    npm_config_port: String(port),
    npm_config_pidfile: join(scratch, 'pid')
  }
  children.push(spawn(process.execPath, ['--no-warnings', join(suite, 'server/server.mjs')], { cwd: suite, env, stdio: 'ignore' }))
  await answers(`http://127.0.0.1:${port}/`)
}

async function answers (url) {
  for (let attempt = 0; attempt < 200; attempt++) {
    try {
      await (await fetch(url)).arrayBuffer()
      return
    } catch {
      await new Promise(resolve => setTimeout(resolve, 50))
    }
  }
  throw new Error(`nobody answers at ${url}`)
}

function freePort () {
  return new Promise((resolve, reject) => {
    const server = createServer()
    server.on('error', reject)
    server.listen(0, '127.0.0.1', () => {
      const { port } = server.address()
      server.close(() => resolve(port))
    })
  })
}

// What differs from the record.
function compare (results) {
  const exceptions = read('exceptions.json')
  const complaints = []
  const checks = {}
  for (const test of tests) {
    const passed = results[test.id] === true
    if (kindOf(test) === 'check') {
      checks[test.id] = passed
    } else if (passed && test.id in exceptions) {
      complaints.push(`${test.id} passes: take it out of exceptions.json`)
    } else if (!passed && !(test.id in exceptions)) {
      complaints.push(`${test.id} (${kindOf(test)}) does not pass: ${results[test.id]?.join(': ')}\n  ${test.name}`)
    }
  }
  for (const id of Object.keys(exceptions)) {
    if (!tests.some(test => test.id === id)) complaints.push(`exceptions.json: there is no test ${id}`)
  }
  const file = join(here, 'checks.json')
  if (options.record) {
    writeFileSync(file, JSON.stringify(checks, null, 2) + '\n')
  } else {
    const recorded = read('checks.json')
    for (const [id, answer] of Object.entries(checks)) {
      if (recorded[id] !== answer) {
        complaints.push(`${id} (check) is ${answer ? 'yes' : 'no'} and was not: if that is meant, run with --record`)
      }
    }
  }
  return complaints
}

// This cache beside those whose results come with the package, counted on the same tests.
function table (results) {
  const row = (name, results) => {
    const count = kind => {
      const all = tests.filter(test => kindOf(test) === kind)
      return `${all.filter(test => results[test.id] === true).length} of ${all.length}`.padStart(12)
    }
    console.log(`${name.padEnd(30)}${count('required')}${count('optimal')}`)
  }
  console.log(`${''.padEnd(30)}${'required'.padStart(12)}${'optimal'.padStart(12)}`)
  row(options.base ?? 'Reprise', results)
  for (const { name, file, version } of peers()) {
    row(`${name} ${version}`, JSON.parse(readFileSync(join(suite, 'results', file), 'utf8')))
  }
}

function peers () {
  // The index is a module of plain data.
  const source = readFileSync(join(suite, 'results/index.mjs'), 'utf8').replace('export default', 'return')
  return new Function(source)().filter(({ type }) => type !== 'browser')
}
