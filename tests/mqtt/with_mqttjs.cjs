// MQTT.js as a program, for the tests: see test_interop.
// node with_mqttjs.cjs ACTION PORT VERSION NAME COUNT
const mqtt = require('mqtt')
const [action, port, version, name, count] = process.argv.slice(2)
const found = []
let present = false
const scheme = process.env.MQTT_SCHEME || 'mqtt'
const client = mqtt.connect(`${scheme}://127.0.0.1:${port}`, {
  clientId: name,
  protocolVersion: Number(version),
  clean: false,
  reconnectPeriod: 0,
  properties: version === '5' ? { sessionExpiryInterval: 3600 } : undefined,
})
const fail = (error) => { console.error(error); process.exit(1) }
const end = () => client.end(false, {}, () => {
  console.log(JSON.stringify({ present, messages: found }))
  process.exit(0)
})
setTimeout(() => fail('too late'), 20000).unref()
client.on('error', fail)
client.on('message', (topic, payload, packet) => {
  found.push([topic, payload.toString(), packet.qos])
  if (found.length >= Number(count)) setTimeout(end, 100)
})
client.on('connect', async (connack) => {
  present = connack.sessionPresent
  try {
    if (action === 'subscribe' || action === 'listen') await client.subscribeAsync('q/#', { qos: 2 })
    if (action === 'listen') console.log('ready')
    if (action === 'publish') {
      for (const qos of [0, 1, 2]) await client.publishAsync(`q/${qos}`, `from ${name}`, { qos })
    }
    if (action === 'subscribe' || action === 'publish') end()
  } catch (error) { fail(error) }
})
