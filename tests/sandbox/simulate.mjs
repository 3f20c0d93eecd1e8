// Reads a list of simulations and says of each whether @cloud-copilot/iam-simulate allows it.
// usage: node simulate.mjs FOLDER-OF-NODE_MODULES < simulations.json
import { createRequire } from 'node:module'
import { readFileSync } from 'node:fs'

const { runSimulation } = createRequire(`${process.argv[2]}/`)('@cloud-copilot/iam-simulate')
const results = []
for (const simulation of JSON.parse(readFileSync(0, 'utf8'))) {
  const result = await runSimulation(simulation, {})
  if (result.resultType === 'error') throw new Error(JSON.stringify([simulation.request, result.errors]))
  results.push({ allowed: result.overallResult === 'Allowed', ignored: result.result?.ignoredContextKeys ?? [] })
}
console.log(JSON.stringify(results))
