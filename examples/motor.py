"""A motor: three commands, and an operation that moves, measures and reports progress. Moving warms the motor."""

from pydantic import PositiveFloat, PositiveInt, create_model

from sisock import Command, Field, Operation, Polled, Timeline, serve

To, Speed = create_model("To", position=float), create_model("Speed", speed=PositiveFloat)
Range = create_model("Range", first=(float, 0.0), step=(float, 1.0), points=(PositiveInt, 21))


class Motor(Polled):
    def __init__(self):
        fields = [Field("position", units="mm"), Field("temperature", units="°C")]
        super().__init__(Timeline("motor", fields, interval_s=0.1), self.read)
        self.position, self.temperature, self.goal = 0.0, 25.0, {"position": 0.0, "speed": 2.0}
        self.procedures = [
            Command("move", "Move to a position in mm.", To, None, self.goal.update),
            Command("home", "Move to 0 mm.", None, None, lambda: self.goal.update(position=0.0)),
            Command("set_speed", "Set the speed in mm/s.", Speed, None, self.goal.update),
            Operation("scan", "Measure at points of a range.", Range, None, self.scan, exclusive="motor"),
        ]

    def read(self):
        way, step = self.goal["position"] - self.position, 0.1 * self.goal["speed"]
        self.position += max(-step, min(step, way))
        self.temperature += (0.8 if way else 0.0) - 0.02 * (self.temperature - 25.0)
        return {"position": self.position, "temperature": self.temperature}

    def scan(self, wanted, context):
        for number in range(wanted.points):
            self.goal["position"] = point = wanted.first + number * wanted.step
            while self.position != point:
                context.wait(0.05)  # a run that is cancelled ends here, and the motor at this point
            context.update({"position": point, "signal": 1.0 / (1.0 + (point - 7.0) ** 2)})
            context.progress((number + 1) / wanted.points, f"at {point:g} mm")


if __name__ == "__main__":
    serve("motor", Motor(), description="A motor that moves, warms up and scans")
